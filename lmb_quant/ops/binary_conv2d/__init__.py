# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.lmb_quant.binary_conv2d`` and its in-place form: a packed binary layer in one sweep.

By the engine, or by the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_type_hints

import torch
from torch import Tensor

from lmb_quant.errors import LMBError
from lmb_quant.ops._library import active_kernel, find
from lmb_quant.ops._memory import empty_channels_last

from . import reference, spec
from ._check import check, output_size
from ._engine import EngineLayer, forget, layer_of
from .spec import LayerArguments

__all__ = [
    "EngineLayer",
    "LayerArguments",
    "active_kernel",
    "binary_conv2d",
    "binary_conv2d_",
    "forget",
    "kernel_of",
    "reference",
    "spec",
]

_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?", Sequence[int]: "int[]", int: "int", str: "str", bool: "bool"}
_REST = "".join(f", {_TYPES[kind]} {name}" for name, kind in get_type_hints(LayerArguments).items())


def _run(x: Tensor, out: Tensor, a: LayerArguments) -> bool:
    """Computes ``out``, dense float32 channels-last as ``x``, by the engine; False if there is none."""
    library = find()[0] if x.device.type == "cpu" else None
    if library is None:
        return False
    layer_of(library, a, x.shape[1]).run(x, out, a.skip)
    return True


@torch.library.custom_op("lmb_quant::binary_conv2d", mutates_args=(), schema=f"(Tensor x{_REST}) -> Tensor")
def _binary_conv2d(x: Tensor, *arguments: Any) -> Tensor:
    a = LayerArguments(*arguments)
    check(x, a)
    values = x.float().contiguous(memory_format=torch.channels_last)
    out = empty_channels_last(output_size(x, a), x.device)
    if out.numel() and not _run(values, out, a):
        out.copy_(reference.binary_conv2d(values, a))
    return out.to(x.dtype)


@torch.library.custom_op("lmb_quant::binary_conv2d_", mutates_args=("x",), schema=f"(Tensor(a!) x{_REST}) -> ()")
def _binary_conv2d_(x: Tensor, *arguments: Any) -> None:
    a = LayerArguments(*arguments)
    check(x, a)
    if output_size(x, a) != tuple(x.shape):
        raise LMBError(f"output: shape {output_size(x, a)} is not allowed in place. Allowed: the input's.")
    if not x.numel():
        return
    dense = x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    if not dense or not _run(x, x, a):
        x.copy_(_binary_conv2d(x, *a))


@_binary_conv2d.register_fake
def _(x: Tensor, *arguments: Any) -> Tensor:
    return torch.empty(
        output_size(x, LayerArguments(*arguments)),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )


def binary_conv2d(x: Tensor, arguments: LayerArguments) -> Tensor:
    r"""Computes ``act(f * scale * conv(B, W) + bias) [+ x]``, or ``act(... + x)``, B and W packed bits.

    f is 1, or with a ``pixel_factor`` (I + 1,) a factor of each pixel: ``min(max(w . x + b, 0), 1)``, b its last value.

    Args:
        x: ``(N, C, H, W)``, floating point, any layout; computed in float32. Best channels-last.
        arguments: The packed layer.

    Returns:
        ``(N, O, H', W')``, dtype of ``x``, channels-last. Without gradient.

    Raises:
        LMBError: If something does not fit, or the engine refuses the layer.
    """
    return torch.ops.lmb_quant.binary_conv2d(x, *arguments)


def binary_conv2d_(x: Tensor, arguments: LayerArguments) -> Tensor:
    r"""As :func:`binary_conv2d`, with the result in the place of ``x``: no memory for it, less traffic.

    Args:
        x: As there; fastest in float32 and channels-last, which need no copy.
        arguments: The packed layer, whose output has the shape of its input.

    Returns:
        ``x``.

    Raises:
        LMBError: As there; also if the shapes differ.
    """
    torch.ops.lmb_quant.binary_conv2d_(x, *arguments)
    return x


def kernel_of(arguments: LayerArguments, in_channels: int) -> str:
    """The kernel that runs a layer where its tensors are, e.g. ``"avx2-lut"`` or ``"reference"``."""
    library = find()[0] if arguments.weight_packed.device.type == "cpu" else None
    return layer_of(library, arguments, in_channels).kernel if library else "reference"
