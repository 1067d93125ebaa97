# SPDX-License-Identifier: Apache-2.0
"""Bilinear and bicubic enlargement by a whole factor, the same at every position."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_REACH = 2  # pixels that a bicubic enlargement looks at on each side
_A = -0.75  # of the cubic, as in PyTorch


def enlarge(x: Tensor, upscale: int, mode: str) -> Tensor:
    """Enlarges as ``F.interpolate`` with ``align_corners=False``; an image's part enlarges as in the image, to the bit.

    In float32, PyTorch's weights depend on the position where ``1 / upscale`` is no binary fraction: by rounding, but
    that decides bits, so that a tile would not give what the whole image gives. Here they do not.

    Args:
        x: ``(N, C, H, W)``, floating point.
        upscale: Whole factor, at least 1.
        mode: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        ``(N, C, upscale H, upscale W)``, dtype of ``x``.

    Example:
        >>> enlarge(torch.tensor([[[[0.0, 3.0]]]]), 3, "bilinear")[0, 0, 0]
        tensor([0., 0., 1., 2., 3., 3.])
    """
    if upscale & (upscale - 1) == 0:
        return F.interpolate(x, scale_factor=upscale, mode=mode, align_corners=False)
    rows = [_weights((phase + 0.5) / upscale - 0.5, mode) for phase in range(upscale)]
    for dim in (2, 3):
        size = x.shape[dim]
        padded = F.pad(x, (0, 0, _REACH, _REACH) if dim == 2 else (_REACH, _REACH, 0, 0), mode="replicate")
        phases = [_sum([w * padded.narrow(dim, i, size) for i, w in enumerate(row) if w]) for row in rows]
        x = torch.stack(phases, dim + 1).flatten(dim, dim + 1)
    return x


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _weights(position: float, mode: str) -> list[float]:
    """Weights of the pixels -2 to 2 for a point at ``position``, in (-1/2, 1/2), pixels."""
    base = math.floor(position)
    kernel = _cubic if mode == "bicubic" else _linear
    taps = range(base - 1, base + 3)
    return [kernel(abs(position - pixel)) if pixel in taps else 0.0 for pixel in range(-_REACH, _REACH + 1)]


def _linear(distance: float) -> float:
    return max(0.0, 1 - distance)


def _cubic(distance: float) -> float:
    if distance <= 1:
        return ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    return ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
