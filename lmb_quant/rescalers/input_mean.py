# SPDX-License-Identifier: Apache-2.0
"""The map of input magnitudes that scales XNOR-Net's output."""

from __future__ import annotations

import math
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from ._base import Rescaler
from ._registry import rescaler


@rescaler("input_mean", source="XNOR-Net, arXiv 1603.05279, section 3.2, eq. 11")
class InputMean(Rescaler):
    """The factor ``K = A * k``: A the mean of abs(x) over the channels, k the box filter of the convolution's kernel.

    All entries of k are 1 / (w h); stride, padding and dilation are those of the convolution, what lies outside the
    image counts as 0. The gradient flows through K: this project's reading.

    Args:
        conv: The convolution whose output is scaled.
    """

    def __init__(self, conv: nn.Conv2d, /) -> None:
        super().__init__()
        self.kernel_size = conv.kernel_size
        self.geometry: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation)

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: object) -> Self:
        """Makes it with the convolution's geometry."""
        return cls(conv, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``(N, I, H, W)`` as it is, and K, ``(N, 1, H', W')``."""
        box = x.new_full((1, 1, *self.kernel_size), 1 / math.prod(self.kernel_size))
        return x, F.conv2d(x.abs().mean(dim=1, keepdim=True), box, None, *self.geometry)

    def additions(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """The mean over the channels, and the box filter, rows and columns apart."""
        n, _, *size = after
        return math.prod(before) + n * math.prod(size) * sum(side - 1 for side in self.kernel_size)
