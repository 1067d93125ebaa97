# SPDX-License-Identifier: Apache-2.0
"""Everything that a pointer relies on: names, lists, shapes, types."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops.geometry import output_sides
from lmb_quant.ops.threshold import check_threshold

from .spec import ACT_ON, ACTS, TENSORS, LayerArguments

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def output_size(x: Tensor, arguments: LayerArguments) -> tuple[Any, ...]:
    """``(N, O, H', W')`` for an input ``(N, C, H, W)``; sizes may be symbolic."""
    a = arguments
    sides = output_sides(x.shape[2:], a.kernel_size, a.stride, a.padding, a.dilation)
    return (x.shape[0], a.weight_packed.shape[0], *sides)


def check(x: Tensor, a: LayerArguments) -> None:
    """Checks an input and a layer.

    Raises:
        LMBError: If something is not allowed or does not fit.
    """
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
    _check_lengths(a, inputs, outputs)
    output = output_size(x, a)
    resized = a.pixel_factor is not None and output[2:] != tuple(x.shape[2:])
    if min(output[2:]) < 1 or resized or (a.skip and output != tuple(x.shape)):
        kind = (
            "the skip needs the input's" if a.skip else "a pixel factor keeps the size" if resized else "positive sizes"
        )
        raise LMBError(f"output: shape {output} is not allowed. Allowed: {kind}.")


def _check_lengths(a: LayerArguments, inputs: int, outputs: int) -> None:
    act = ACTS[a.act]
    for (name, argument), value in zip(TENSORS.items(), a.tensors, strict=True):
        if argument.given == "act" and (value is not None) != (name in act.tensors):
            raise LMBError(f"{name}: act {a.act!r} {'needs' if value is None else 'has no'} {name}.")
        if value is None or name == "weight_packed":
            continue
        length = argument.length(inputs, outputs)
        allowed = act.slope_counts(outputs) if name == "slope" else (length,)
        if value.ndim != 1 or value.numel() not in allowed:
            raise LMBError(f"{name}: shape {tuple(value.shape)} is not allowed. Allowed: ({length},).")
