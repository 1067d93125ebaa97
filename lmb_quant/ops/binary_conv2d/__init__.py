# SPDX-License-Identifier: Apache-2.0
"""``torch.ops.lmb_quant.binary_conv2d`` and its in-place form: a packed binary layer in one sweep.

By the engine, or by the reference.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops._library import active_kernel, find
from lmb_quant.ops.threshold import check_threshold

from . import reference
from ._engine import ACT_ON, ACTS, EngineLayer, LayerArguments, forget, layer_of

__all__ = [
    "ACTS",
    "ACT_ON",
    "EngineLayer",
    "LayerArguments",
    "active_kernel",
    "binary_conv2d",
    "binary_conv2d_",
    "forget",
    "kernel_of",
    "reference",
]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_REST = (
    ", Tensor weight_packed, Tensor weight_scale, Tensor? bias, Tensor? shift, Tensor? gain, Tensor? slope, "
    "Tensor? gamma, Tensor? zeta, Tensor? pixel_factor, int[] kernel_size, int[] stride, int[] padding, "
    "int[] dilation, int groups, str threshold, int window, str act, str act_on, bool skip"
)


def _output_size(x: Tensor, arguments: LayerArguments) -> tuple[Any, ...]:
    """``(N, O, H', W')`` for an input ``(N, C, H, W)``; sizes may be symbolic."""
    a = arguments
    ends = (a.padding[0] + a.padding[2], a.padding[1] + a.padding[3])
    spatial = (
        (size + end - d * (k - 1) - 1) // s + 1
        for size, end, k, s, d in zip(x.shape[2:], ends, a.kernel_size, a.stride, a.dilation, strict=True)
    )
    return (x.shape[0], a.weight_packed.shape[0], *spatial)


def _check(x: Tensor, a: LayerArguments) -> None:
    """Everything that a pointer relies on: names, lists, shapes, types."""
    if x.dtype not in _DTYPES:
        raise LMBError(f"input: dtype {x.dtype} is not allowed. Allowed: {', '.join(map(str, _DTYPES))}.")
    if x.ndim != 4:
        raise LMBError(f"input: shape {tuple(x.shape)} is not allowed. Allowed: (N, C, H, W).")
    lengths = [len(a.kernel_size), len(a.stride), len(a.padding), len(a.dilation)]
    whole = [*a.kernel_size, *a.stride, *a.dilation, a.groups]
    if lengths != [2, 2, 4, 2] or min(whole) < 1 or min(a.padding) < 0 or x.shape[1] % a.groups:
        raise LMBError(
            f"kernel_size {a.kernel_size}, stride {a.stride}, padding {a.padding}, dilation {a.dilation}, groups "
            f"{a.groups} for {x.shape[1]} channels are not allowed. Allowed: 2, 2, 4 and 2 numbers; groups divide."
        )
    check_threshold(a.threshold, a.window, a.shift is not None, a.gain is not None)
    if a.act not in ACTS:
        raise LMBError(unknown_name("act", a.act, ACTS))
    if a.act_on not in ACT_ON:
        raise LMBError(unknown_name("act_on", a.act_on, ACT_ON))
    outputs, inputs = len(a.weight_packed), x.shape[1]
    expected = (outputs, math.prod(a.kernel_size) * math.ceil(inputs // a.groups / 8))
    if a.weight_packed.dtype != torch.uint8 or tuple(a.weight_packed.shape) != expected:
        raise LMBError(
            f"weight_packed: {a.weight_packed.dtype} {tuple(a.weight_packed.shape)} is not allowed for an input of "
            f"{inputs} channels. Allowed: torch.uint8 {expected}."
        )
    _check_sizes(a, inputs, outputs)
    output = _output_size(x, a)
    resized = a.pixel_factor is not None and output[2:] != tuple(x.shape[2:])
    if min(output[2:]) < 1 or resized or (a.skip and output != tuple(x.shape)):
        kind = (
            "the skip needs the input's" if a.skip else "a pixel factor keeps the size" if resized else "positive sizes"
        )
        raise LMBError(f"output: shape {output} is not allowed. Allowed: {kind}.")


def _check_sizes(a: LayerArguments, inputs: int, outputs: int) -> None:
    needed = {"none": (), "relu": (), "hardtanh": (), "prelu": ("slope",), "rprelu": ("slope", "gamma", "zeta")}[a.act]
    for name in ("weight_scale", "bias", "shift", "gain", "slope", "gamma", "zeta"):
        value = getattr(a, name)
        allowed = {1, outputs} if name == "slope" and a.act == "prelu" else {outputs}
        if name in ("shift", "gain"):
            allowed = {inputs}
        if name in ("slope", "gamma", "zeta") and (value is not None) != (name in needed):
            raise LMBError(f"{name}: act {a.act!r} {'needs' if value is None else 'has no'} {name}.")
        if value is not None and (value.ndim != 1 or value.numel() not in allowed):
            raise LMBError(f"{name}: shape {tuple(value.shape)} is not allowed. Allowed: ({max(allowed)},).")
    if a.pixel_factor is not None and tuple(a.pixel_factor.shape) != (inputs + 1,):
        shape = tuple(a.pixel_factor.shape)
        raise LMBError(f"pixel_factor: shape {shape} is not allowed. Allowed: ({inputs + 1},).")


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
    _check(x, a)
    values = x.float().contiguous(memory_format=torch.channels_last)
    out = torch.empty(_output_size(x, a), device=x.device, memory_format=torch.channels_last)
    if out.numel() and not _run(values, out, a):
        out.copy_(reference.binary_conv2d(values, *a))
    return out.to(x.dtype)


@torch.library.custom_op("lmb_quant::binary_conv2d_", mutates_args=("x",), schema=f"(Tensor(a!) x{_REST}) -> ()")
def _binary_conv2d_(x: Tensor, *arguments: Any) -> None:
    a = LayerArguments(*arguments)
    _check(x, a)
    if _output_size(x, a) != tuple(x.shape):
        raise LMBError(f"output: shape {_output_size(x, a)} is not allowed in place. Allowed: the input's.")
    if not x.numel():
        return
    dense = x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    if not dense or not _run(x, x, a):
        x.copy_(_binary_conv2d(x, *a))


@_binary_conv2d.register_fake
def _(x: Tensor, *arguments: Any) -> Tensor:
    return torch.empty(
        _output_size(x, LayerArguments(*arguments)),
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
