# SPDX-License-Identifier: Apache-2.0
"""Gradient convolutions by oneDNN: where the engine has none, where a gradient is not finite, and in bfloat16."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from .function import Unit


def signs_of(packed: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Packed bits, uint8 ``(..., bytes)``, LSB first, as -1 and +1: ``(..., channels)`` of the given dtype."""
    return F.embedding(packed.int(), _table(dtype)).flatten(-2)[..., :channels]


@cache
def _table(dtype: torch.dtype) -> Tensor:
    """The eight signs of each byte: looking them up is several times as fast as shifting bits in PyTorch."""
    values = torch.arange(256, device="cpu")
    bits = values[:, None] >> values[:8] & 1
    return (2 * bits - 1).to(dtype)


def gradient_convolutions(
    grad: Tensor,
    bits_packed: Tensor,
    signs_packed: Tensor,
    inputs: int,
    unit: Unit,
    wants_bits: bool,
    wants_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a convolution's two operands, both -1 and +1.

    Args:
        grad: ``(N, O, H', W')``, of the sums of bits.
        bits_packed: The kept bits, uint8 ``(N, H, W, bytes)``.
        signs_packed: The packed weight.
        inputs: I.
        unit: Its geometry; with ``bf16`` the operands are rounded, of which only ``grad`` changes.
        wants_bits: Whether that of the bits is wanted.
        wants_weight: Whether that of the signs is wanted.

    Returns:
        Both, float32, channels-last; None what is not wanted.
    """
    dtype = torch.bfloat16 if unit.bf16 else torch.float32
    bits = signs_of(bits_packed, inputs, dtype).permute(0, 3, 1, 2)
    taps = signs_packed.view(len(signs_packed), *unit.kernel_size, -1)
    signs = signs_of(taps, inputs // unit.groups, dtype).permute(0, 3, 1, 2)
    top, left, bottom, right = unit.padding
    symmetric = (top, left) == (bottom, right)
    if not symmetric:
        bits = F.pad(bits, (left, right, top, bottom))
    grad_bits, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad.to(dtype),
        bits,
        signs.contiguous(memory_format=torch.channels_last),
        None,
        list(unit.stride),
        [top, left] if symmetric else [0, 0],
        list(unit.dilation),
        False,
        [0, 0],
        unit.groups,
        [wants_bits, wants_weight, False],
    )
    if grad_bits is not None:
        if not symmetric:
            grad_bits = grad_bits[:, :, top : grad_bits.shape[2] - bottom, left : grad_bits.shape[3] - right]
        grad_bits = grad_bits.float().contiguous(memory_format=torch.channels_last)
    return grad_bits, None if grad_weight is None else grad_weight.float()
