# SPDX-License-Identifier: Apache-2.0
"""Activations against a learned threshold for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.ops import Comparison, Threshold, check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer


@activation_binarizer(
    "rsign",
    source="ReActNet, arXiv 2003.03488, eq. 1; default surrogate Bi-Real Net, arXiv 1808.00278, eq. 6",
    golden=Golden(
        x=(-2.0, -0.5, 0.0, 0.25, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 1.0, -1.0, 1.0),
        grad_x=(0.0, 1.0, 2.0, -1.5, 0.0),
    ),
)
class RSign(ActivationBinarizer):
    """``y = sign(x - t)``, t one learned number per channel, 0 at first; ``dy/dx := g(x - t)``, ``dy/dt := -g(x - t)``.

    Args:
        channels: C of the input.
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown.
    """

    is_per_channel = True

    def __init__(self, channels: int, /, *, surrogate: str = "approx_sign") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        return surrogate_sign(x - self.threshold.to(x.dtype).view(1, -1, 1, 1), self.surrogate, self.progress)

    def comparison(self) -> Comparison:
        """The comparison as data: with t."""
        return Comparison(Threshold("channel", shift=self.threshold), self.surrogate, progress=self.progress)
