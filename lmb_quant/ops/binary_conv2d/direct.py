# SPDX-License-Identifier: Apache-2.0
"""A packed layer past PyTorch's dispatcher: with a score of arguments the way to the operator costs more than a layer.

The results are those of the operator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lmb_quant.ops._dispatch import is_plain
from lmb_quant.ops._library import find
from lmb_quant.ops._memory import empty_channels_last

from ._check import check, output_size
from ._engine import layer_of
from .spec import LayerArguments


class DirectLayer:
    """A packed layer on the CPU with all that its calls have in common.

    It computes what it was made of for as long as :meth:`is_current`. Any number of threads may call it.

    Args:
        arguments: The layer; :meth:`runs` has been asked.
        x: An input that it will be given.

    Raises:
        LMBError: If the two do not fit, or the engine refuses the layer.
    """

    def __init__(self, arguments: LayerArguments, x: Tensor) -> None:
        library = find()[0]
        assert library is not None
        check(x, arguments)
        self._arguments = arguments
        self._tensors = [t for t in arguments.tensors if t is not None]
        self._versioned = [t for t in self._tensors if not t.is_inference()]
        self._versions = [t._version for t in self._versioned]
        self._sizes: tuple[Any, Any] = ((), ())
        self._layer = layer_of(library, arguments, x.shape[1])

    @staticmethod
    def runs(arguments: LayerArguments) -> bool:
        """Whether there is an engine, and a layer's tensors are where it computes."""
        return find()[0] is not None and all(t is None or is_plain(t) for t in arguments.tensors)

    def is_current(self) -> bool:
        """Whether none of the tensors was written to."""
        return [t._version for t in self._versioned] == self._versions and not self._layer.is_forgotten

    def asks_gradient(self) -> bool:
        """Whether a gradient is asked of a tensor, which the operator refuses."""
        return torch.is_grad_enabled() and any(t.requires_grad for t in self._tensors)

    def run(self, x: Tensor, overwrite: bool) -> Tensor:
        """Computes the layer; the caller has asked :func:`lmb_quant.ops._dispatch.is_plain`.

        Args:
            x: ``(N, C, H, W)``, float32.
            overwrite: Whether the result may take the place of ``x``; done where that has its shape and layout.

        Raises:
            LMBError: If ``x`` does not fit the layer.
        """
        size = x.shape
        known, result = self._sizes
        if size != known:
            check(x, self._arguments)
            result = torch.Size(output_size(x, self._arguments))
            self._sizes = (size, result)  # one assignment, for other threads
        values = x.contiguous(memory_format=torch.channels_last)
        out = x if overwrite and values is x and result == size else empty_channels_last(result, x.device)
        if out.numel():
            self._layer.run(values, out, self._arguments.skip)
        if out is x and not x.is_inference():
            torch.autograd.graph.increment_version(x)
        return out
