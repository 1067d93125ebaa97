# SPDX-License-Identifier: Apache-2.0
"""The definition of a packed binary layer in plain PyTorch; the bit layout is docs/bit_layout.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lmb_quant.ops.local_mean import global_mean, window_sum
from lmb_quant.ops.local_mean.reference import TIE_MARGIN


def pack_bits(bits: Tensor) -> Tensor:
    """Packs bool ``(O, I, Kh, Kw)`` to uint8 ``(O, Kh*Kw*ceil(I/8))``: channels fastest, LSB first, tail bits 0."""
    outputs, inputs = bits.shape[:2]
    taps = F.pad(bits.permute(0, 2, 3, 1).to(torch.int32), (0, -inputs % 8)).reshape(outputs, -1, 8)
    return (taps << torch.arange(8, device=bits.device, dtype=torch.int32)).sum(-1).to(torch.uint8)


def unpack_bits(packed: Tensor, inputs: int, kernel_size: Sequence[int]) -> Tensor:
    """The inverse of :func:`pack_bits`: bool ``(O, I, Kh, Kw)``."""
    places = torch.arange(8, device=packed.device, dtype=torch.int32)
    bits = (packed.to(torch.int32)[..., None] >> places & 1).bool()
    return bits.reshape(len(packed), *kernel_size, -1)[..., :inputs].permute(0, 3, 1, 2)


def input_bits(x: Tensor, threshold: str, window: int, shift: Tensor | None, gain: Tensor | None) -> Tensor:
    """Compares float32 ``(N, C, H, W)`` with its threshold (:class:`lmb_quant.ops.Threshold`); bool, same shape."""
    value = x if shift is None else x - _per_channel(shift)
    if threshold in ("none", "channel"):
        return value >= 0
    total, count = window_sum(x, window) if threshold == "local" else (global_mean(x), x.new_ones(()))
    if gain is not None:
        total = total * _per_channel(gain)
    return count * value - total >= -TIE_MARGIN * (count * value.abs() + total.abs())


def factor_of_pixels(x: Tensor, pixel_factor: Tensor) -> Tensor:
    """``min(max(w . x + b, 0), 1)``: float32 ``(N, C, H, W)`` and ``(C + 1,)``, b last, to ``(N, 1, H, W)``.

    The order of the additions is part of the definition: channels c mod 16 first, then these 16, 8, 4, 2 by halves.
    """
    products = F.pad(x * _per_channel(pixel_factor[:-1]), (0, 0, 0, 0, 0, -x.shape[1] % 16)).unflatten(1, (-1, 16))
    sums = torch.zeros_like(products[:, 0])
    for part in products.unbind(1):
        sums = sums + part
    for half in (8, 4, 2, 1):
        sums = sums[:, :half] + sums[:, half:]
    return (sums + pixel_factor[-1]).clamp(0, 1)


def binary_conv2d(
    x: Tensor,
    weight_packed: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    shift: Tensor | None,
    gain: Tensor | None,
    slope: Tensor | None,
    gamma: Tensor | None,
    zeta: Tensor | None,
    pixel_factor: Tensor | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    threshold: str,
    window: int,
    act: str,
    act_on: str,
    skip: bool,
) -> Tensor:
    """``act(f * scale * conv(B, W) + bias) [+ x]``, or ``act(... + x)``, in float32; a padded activation adds 0."""
    signs = torch.where(input_bits(x, threshold, window, shift, gain), 1.0, -1.0)
    weight = torch.where(unpack_bits(weight_packed, x.shape[1] // groups, kernel_size), 1.0, -1.0)
    top, left, bottom, right = padding
    signs = F.pad(signs, (left, right, top, bottom))
    y = F.conv2d(signs, weight, None, list(stride), 0, list(dilation), groups)  # whole numbers: exact in any order
    y = y * _per_channel(weight_scale)
    if pixel_factor is not None:
        y = y * factor_of_pixels(x, pixel_factor)
    if bias is not None:
        y = y + _per_channel(bias)
    if skip and act_on == "sum":
        y = y + x
    if act == "relu":
        y = torch.where(y < 0, 0.0, y)
    if act == "hardtanh":
        y = y.clamp(-1, 1)
    if act == "prelu" and slope is not None:
        y = torch.where(y > 0, y, y * _per_channel(slope))
    if act == "rprelu" and slope is not None and gamma is not None and zeta is not None:
        moved = y - _per_channel(gamma)
        y = torch.where(y > _per_channel(gamma), moved, _per_channel(slope) * moved) + _per_channel(zeta)
    return y + x if skip and act_on == "branch" else y


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
