# SPDX-License-Identifier: Apache-2.0
"""XNOR-Net: the gradient of its scaled weights, and the map of input magnitudes that scales its output."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.ops import surrogate_sign

from ._base import Golden, Rescaler, WeightBinarizer
from ._registry import rescaler, weight_binarizer


@weight_binarizer(
    "xnor",
    source="XNOR-Net, arXiv 1603.05279, section 3.1 (training binary weights)",
    # sum|w| = 4: g = (0, 1, 1, 0) + 1/4
    golden=Golden(
        x=(-1.5, -0.25, 0.25, 2.0),
        y=(-1.0, -1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 2.0, -1.0),
        grad_x=(0.25, 1.25, 2.5, -0.25),
    ),
)
class XnorWeight(WeightBinarizer):
    """``y = sign(w)``; ``dy/dw := 1[|w| <= 1] + 1 / sum|w|``, the sum over the filter of n weights.

    With the scale ``channel_mean``, alpha = mean|w|, that is the paper's ``d(alpha sign(w))/dw = 1/n + alpha 1[|w| <=
    1]``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        y = surrogate_sign(x, "ste")
        total = x.detach().abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        return y + (x - x.detach()) / total


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
