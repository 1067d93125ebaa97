# SPDX-License-Identifier: Apache-2.0
"""The image at a layer's size: its colour planes, and which pixels are edges, texture and flat."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PLANES = ("red", "green", "blue", "Y", "Cb", "Cr")

_YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)  # BT.601, full range
_WINDOW = 5
_EDGES, _FLAT = 0.10, 0.03
"""Standard deviation of Y in the window, of [0, 1]: above it is an edge, below it is flat, between is texture."""


def planes_at(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """Red, green, blue, Y, Cb and Cr of ``(N, 3, H, W)``, [0, 1], averaged to ``size``: ``(N, 6, *size)``."""
    planes = torch.cat([rgb, torch.einsum("pc,nchw->nphw", _YCBCR, rgb)], dim=1)
    return F.adaptive_avg_pool2d(planes, size)


def regions_at(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels at ``size`` are edges (0), texture (1) and flat (2), by local variance: ``(N, *size)``, int64.

    Source:
        The three parts by local variance, their bounds and the window: this project's choice.
    """
    luma = torch.einsum("c,nchw->nhw", _YCBCR[0], rgb)[:, None]
    padded = F.pad(luma, (_WINDOW // 2,) * 4, mode="replicate")
    mean, square = (F.avg_pool2d(part, _WINDOW, 1) for part in (padded, padded**2))
    deviation = F.adaptive_avg_pool2d((square - mean**2).clamp(min=0), size).sqrt()[:, 0]
    return torch.bucketize(-deviation, torch.tensor([-_EDGES, -_FLAT]))
