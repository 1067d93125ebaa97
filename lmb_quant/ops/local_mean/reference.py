# SPDX-License-Identifier: Apache-2.0
"""The definition of the local-mean sign, in plain loops over the window; docs/concepts.md explains it."""

from __future__ import annotations

import torch
from torch import Tensor

TIE_MARGIN = 2.0**-18


def window_sum(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Sums the in-frame pixels of each window, columns first (top to bottom), then rows (left to right)."""
    height, width = x.shape[2:]
    half = window // 2
    columns = torch.zeros_like(x)
    for y in range(height):
        for i in range(max(0, y - half), min(height, y + half + 1)):
            columns[:, :, y] += x[:, :, i]
    total, count = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
    for j in range(width):
        for i in range(max(0, j - half), min(width, j + half + 1)):
            total[:, :, :, j] += columns[:, :, :, i]
    for y in range(height):
        for j in range(width):
            rows = min(height, y + half + 1) - max(0, y - half)
            count[..., y, j] = rows * (min(width, j + half + 1) - max(0, j - half))
    return total, count


def local_mean_sign(x: Tensor, window: int, shift: Tensor | None = None, gain: Tensor | None = None) -> Tensor:
    """B = +1 where A - T >= -tau, tau = 2^-18 (|A| + |T|), both sides multiplied by the pixel count: no division."""
    x = x.float()
    total, count = window_sum(x, window)
    if shift is not None:  # one number per channel: A - shift takes the place of A
        x = x - shift.float().view(1, -1, 1, 1)
    if gain is not None:  # one number per channel: gain T takes the place of T
        total = total * gain.float().view(1, -1, 1, 1)
    scaled = count * x
    tau = TIE_MARGIN * (count * x.abs() + total.abs())
    return torch.where(scaled - total >= -tau, 1.0, -1.0)
