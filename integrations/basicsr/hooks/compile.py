# SPDX-License-Identifier: Apache-2.0
"""torch.compile and channels-last memory for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lmb_quant.errors import LMBError, unknown_name

from ._base import Hook
from ._values import switch

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel

_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class Compile(Hook):
    """Compiles the trained network; names in its state dict stay as they are. Validation runs uncompiled.

    Args:
        mode: torch.compile's mode, or ``off`` for the memory format alone.
        channels_last: Whether to keep weights and images in channels-last memory format.
    """

    def __init__(self, *, mode: str = "default", channels_last: bool = True) -> None:
        if mode not in (*_MODES, "off"):
            raise LMBError(unknown_name("mode", mode, (*_MODES, "off")))
        self.mode, self.channels_last = mode, switch("channels_last", channels_last)
        self._compiled: Any = None

    def before_train(self, model: LMBModel) -> None:
        """Converts and compiles; the compilation itself takes place in the first iteration."""
        if self.channels_last:
            to: Any = model.bare_net.to  # its memory_format is missing in torch's annotations
            to(memory_format=torch.channels_last)
        if self.mode != "off":
            model.bare_net.compile(mode=self.mode)
        self._compiled = model.bare_net._compiled_call_impl

    def before_val(self, model: LMBModel, it: int) -> None:
        """Sets the compiled form aside: it would be made again for each size of image."""
        model.bare_net._compiled_call_impl = None

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Converts the batch."""
        model.bare_net._compiled_call_impl = self._compiled
        if self.channels_last:
            model.lq = model.lq.contiguous(memory_format=torch.channels_last)
