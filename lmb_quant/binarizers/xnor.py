# SPDX-License-Identifier: Apache-2.0
"""The gradient of XNOR-Net's scaled weights; its map of input magnitudes is the rescaler ``input_mean``."""

from __future__ import annotations

import torch
from torch import Tensor

from lmb_quant.ops import surrogate_sign

from ._base import Golden, WeightBinarizer
from ._registry import weight_binarizer


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
