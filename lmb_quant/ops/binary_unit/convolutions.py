# SPDX-License-Identifier: Apache-2.0
"""Gradient convolutions by oneDNN: where the engine has none, where a gradient is not finite, and in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from lmb_quant.ops.binary_conv2d.reference import unpack_bits

if TYPE_CHECKING:
    from .function import Unit


def bits_of(bits: Tensor, channels: int) -> Tensor:
    """Kept bits, uint8 ``(N, H, W, bytes)``, as -1 and +1: float32 ``(N, C, H, W)``, channels-last."""
    places = torch.arange(8, dtype=torch.uint8)
    values = (bits[..., None] >> places & 1).flatten(3)[..., :channels]
    return values.float().mul_(2).sub_(1).permute(0, 3, 1, 2)


def gradient_convolutions(
    grad: Tensor, bits: Tensor, signs_packed: Tensor, unit: Unit, wants_bits: bool, wants_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a convolution's two operands, both -1 and +1.

    Args:
        grad: ``(N, O, H', W')``, of the sums of bits.
        bits: ``(N, I, H, W)``.
        signs_packed: The packed weight.
        unit: Its geometry; with ``bf16`` the operands are rounded, of which only ``grad`` changes.
        wants_bits: Whether that of the bits is wanted.
        wants_weight: Whether that of the signs is wanted.

    Returns:
        Both, float32, channels-last; None what is not wanted.
    """
    channels = bits.shape[1] // unit.groups
    signs = torch.where(unpack_bits(signs_packed, channels, unit.kernel_size), 1.0, -1.0)
    top, left, bottom, right = unit.padding
    symmetric = (top, left) == (bottom, right)
    if not symmetric:
        bits = F.pad(bits, (left, right, top, bottom))
    dtype = torch.bfloat16 if unit.bf16 else torch.float32
    grad_bits, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad.to(dtype),
        bits.to(dtype),
        signs.to(dtype).contiguous(memory_format=torch.channels_last),
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
