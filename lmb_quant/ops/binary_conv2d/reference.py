# SPDX-License-Identifier: Apache-2.0
"""The definition of a packed binary layer in plain PyTorch; the bit layout is docs/bit_layout.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lmb_quant.ops.local_mean import global_mean, window_sum
from lmb_quant.ops.local_mean.reference import TIE_MARGIN

from .spec import LayerArguments


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


def _prelu(y: Tensor, a: LayerArguments) -> Tensor:
    return torch.where(y > 0, y, y * _per_channel(a.slope))


def _rprelu(y: Tensor, a: LayerArguments) -> Tensor:
    gamma = _per_channel(a.gamma)
    moved = y - gamma
    return torch.where(y > gamma, moved, _per_channel(a.slope) * moved) + _per_channel(a.zeta)


def exp_limited(u: Tensor) -> Tensor:
    """``exp(u)`` in float32, relative error below 2^-22; that of -87 below it, infinity from 88.4 on.

    ``2^n exp(r)``, u = n log 2 + r, log 2 in two parts. Each step rounds on its own; their order is part of the
    definition. The polynomial is this project's own, of degree 6 with an error of 4e-9.
    """
    u = u.clamp(-87, 89)
    n = (u * 1.4426950216293335).round()
    r = (u - n * 0.693145751953125) - n * 1.428606765330187e-06
    q = torch.full_like(r, 0.0013814539415761828)
    for c in (0.00836874544620514, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552):
        q = q * r + c
    power = ((n.to(torch.int32) + 127) << 23).view(torch.float32)  # 2^n, by its bits; 2^128 is infinity
    return ((q * (r * r) + r) + 1) * power


ACTS: Mapping[str, Callable[[Tensor, LayerArguments], Tensor]] = {
    "none": lambda y, a: y,
    "relu": lambda y, a: torch.where(y < 0, 0.0, y),
    "hardtanh": lambda y, a: y.clamp(-1, 1),
    "prelu": _prelu,
    "rprelu": _rprelu,
    "silu": lambda y, a: y / (exp_limited(0 - y) + 1),
}
"""The definition of each activation function of the specification."""


def binary_conv2d(x: Tensor, a: LayerArguments) -> Tensor:
    """``act(f * scale * conv(B, W) + bias) [+ x]``, or ``act(... + x)``, in float32; a padded activation adds 0."""
    signs = torch.where(input_bits(x, a.threshold, a.window, a.shift, a.gain), 1.0, -1.0)
    weight = torch.where(unpack_bits(a.weight_packed, x.shape[1] // a.groups, a.kernel_size), 1.0, -1.0)
    top, left, bottom, right = a.padding
    signs = F.pad(signs, (left, right, top, bottom))
    y = F.conv2d(signs, weight, None, list(a.stride), 0, list(a.dilation), a.groups)  # whole numbers: exact
    y = y * _per_channel(a.weight_scale)
    if a.pixel_factor is not None:
        y = y * factor_of_pixels(x, a.pixel_factor)
    if a.bias is not None:
        y = y + _per_channel(a.bias)
    if a.skip and a.act_on == "sum":
        return ACTS[a.act](y + x, a)
    y = ACTS[a.act](y, a)
    return y + x if a.skip else y


def _per_channel(values: Tensor | None) -> Tensor:
    assert values is not None  # the specification says what an activation function needs, and is checked
    return values.view(1, -1, 1, 1)
