# SPDX-License-Identifier: Apache-2.0
"""Which training forms run by the engine, and how.

All others run in plain PyTorch, with equal values: on other devices and in other precisions, where hooks want to see a
part of the unit, where something records or compiles what runs, and units that the engine does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from lmb_quant.errors import LMBError
from lmb_quant.ops import weight_scale
from lmb_quant.ops._dispatch import is_plain, something_records
from lmb_quant.ops._library import find
from lmb_quant.ops.binary_conv2d.spec import packed_act
from lmb_quant.ops.binary_unit import Unit, binary_unit
from lmb_quant.ops.geometry import output_sides, padding_of

if TYPE_CHECKING:
    from .conv import BinaryConv2d


def why_reference(conv: BinaryConv2d) -> str:
    """Why a layer trains in plain PyTorch, in words; empty if it trains by the engine on the CPU in float32."""
    if not conv.engine:
        return "engine = False"
    if conv.pre_norm is not None:
        return f"pre_norm {conv.config.pre_norm!r}"
    if conv.config.chain > 1 or conv.binarize_input.place is not None or conv.binarize_weight.place is not None:
        return "chain"
    weight = conv.binarize_weight
    if conv.binarize_input.bases > 1 or weight.bases > 1 or not weight.is_pm1:
        return f"weight binarizer {conv.config.weight!r}"
    try:
        if conv.binarize_input.comparison() is None:
            return f"activation binarizer {conv.config.activation!r}"
    except LMBError as error:
        return str(error)
    if conv.rescale is not None and conv.rescale.packed_factor() is None:
        return f"rescaler {conv.config.rescale!r}"
    if max(conv.kernel_size) > 31:
        return f"kernel {tuple(conv.kernel_size)}"
    if any(p.dtype != torch.float32 or not is_plain(p) for p in conv.parameters()):
        return "parameters not float32 on the CPU"
    library, reason = find()
    return "" if library is not None else reason


def _watched(conv: BinaryConv2d) -> bool:
    """Whether a hook wants to see a part of the unit, or something records what runs."""
    own = any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in _inner(conv)
    )
    return own or something_watches()


def something_watches() -> bool:
    """Whether hooks of all modules are set, or something compiles or records what runs."""
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
        or something_records()
    )


def _inner(conv: BinaryConv2d) -> Iterator[nn.Module]:
    for child in conv.children():
        yield from child.modules()


def takes(conv: BinaryConv2d, x: Tensor) -> bool:
    """Whether a layer runs by the engine on ``(N, C, H, W)``: float32 on the CPU, or of 16 bits under autocast."""
    autocast = torch.is_autocast_enabled("cpu")
    return (
        not _watched(conv)  # first: what compiles does not know all that is asked below
        and is_plain(x)
        and (x.dtype == torch.float32 or (autocast and x.dtype in (torch.bfloat16, torch.float16)))
        and x.ndim == 4
        and x.shape[1] == conv.in_channels
        and x.numel() > 0
        and _fits(conv, x)
        and not why_reference(conv)
    )


def _fits(conv: BinaryConv2d, x: Tensor) -> bool:
    """Whether there is an output, and where the unit has a skip, one of the input's shape."""
    sides = output_sides(x.shape[2:], conv.kernel_size, conv.stride, padding_of(conv), conv.dilation)
    return min(sides) > 0 and (not conv.config.skip or (conv.out_channels, *sides) == tuple(x.shape[1:]))


def _act_of(conv: BinaryConv2d) -> tuple[str | None, dict[str, Tensor]]:
    """Word and parameters of the activation function; None where norm, function and skip follow in plain PyTorch."""
    try:
        act, values = packed_act(conv.act)
    except LMBError:
        return None, {}
    return (act, values) if isinstance(conv.norm, nn.Identity) else (None, {})


def run(conv: BinaryConv2d, x: Tensor) -> Tensor:
    """The unit's output by the engine, float32, channels-last; the caller has asked :func:`takes`."""
    library = find()[0]
    comparison = conv.binarize_input.comparison()
    alpha = weight_scale(conv.weight, conv.config.alpha)
    if not torch.isfinite(alpha).all():  # infinities of both signs add up to NaN, which sums of bits do not
        return conv.reference(x)
    assert library is not None
    assert comparison is not None
    autocast = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False) if autocast else nullcontext():
        x = x.float()
        act, values = _act_of(conv)
        whole = act is not None
        c = conv.config
        unit = Unit(
            conv.kernel_size, conv.stride, padding_of(conv), conv.dilation, conv.groups, act or "none", c.act_on,
            whole and c.skip, conv.bf16_gradients,
        )  # fmt: skip
        y = binary_unit(
            library,
            unit,
            comparison,
            x,
            conv.binarize_weight(conv.weight),
            alpha,
            bias=conv.bias,
            pixel_factor=None if conv.rescale is None else conv.rescale.packed_factor(),
            **values,
        )
        if y.shape != x.shape:  # the layout that networks flatten; a body keeps its own
            y = y.contiguous()
        return y if whole else conv.finish(conv.norm(y), x)
