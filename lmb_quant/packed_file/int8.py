# SPDX-License-Identifier: Apache-2.0
"""Weights of real convolutions as 8-bit numbers in the file; in memory they are float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError

from .codecs import Part, TensorCodec, register_codec

_MOST = 127


class Int8Channels(TensorCodec):
    """A weight as int8 and one scale for each output channel: symmetric, rounded to nearest.

    :meth:`join` gives the plain float32 tensor, so no tensor asks for this codec: ``save`` does, where it is told to.
    """

    name = "lmb_quant.int8_channels"

    def stores(self, tensor: Tensor) -> bool:
        """Never."""
        return False

    def split(self, tensor: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Parts: ``qdata`` (int8) and ``scale`` (float32), the largest magnitude of a channel by 127.

        Raises:
            LMBError: If the weight is not float32, or has a value that is not finite.
        """
        if tensor.dtype != torch.float32:
            raise LMBError(f"{tensor.dtype} cannot be stored as int8. Allowed: torch.float32.")
        if not bool(torch.isfinite(tensor).all()):
            raise LMBError("it has a value that is not finite: it cannot be stored as int8.")
        scale = tensor.abs().amax((1, 2, 3)) / _MOST
        steps = tensor / scale.clamp(min=torch.finfo(torch.float32).tiny).view(-1, 1, 1, 1)  # zeros stay zeros
        return {"qdata": steps.round().clamp(-_MOST, _MOST).to(torch.int8), "scale": scale}, {}

    def parts(self, words: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Part]:
        """As :meth:`TensorCodec.parts`."""
        if words:
            raise LMBError(f"{self.name}: words: {dict(words)!r} is not allowed. Allowed: {{}}.")
        if len(shape) != 4:
            raise LMBError(f"{self.name}: shape {shape} is not allowed. Allowed: a weight of Conv2d, 4 dimensions.")
        return {"qdata": Part(shape, (torch.int8,)), "scale": Part(shape[:1], (torch.float32,))}

    def join(self, parts: Mapping[str, Tensor], words: Mapping[str, Any]) -> Tensor:
        """The float32 weight: ``qdata`` times ``scale``."""
        return parts["qdata"].float() * parts["scale"].view(-1, 1, 1, 1)


INT8_CHANNELS = Int8Channels()
register_codec(INT8_CHANNELS)
