# SPDX-License-Identifier: Apache-2.0
"""Activations against zero."""

from __future__ import annotations

from torch import Tensor

from lmb_quant.ops import Comparison, Threshold, check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer


@activation_binarizer(
    "sign",
    source="BNN, arXiv 1602.02830, eq. 1; default surrogate Bi-Real Net, arXiv 1808.00278, eq. 6",
    golden=Golden(
        x=(-2.0, -0.5, 0.0, 0.25, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 1.0, -1.0, 1.0),
        grad_x=(0.0, 1.0, 2.0, -1.5, 0.0),
    ),
)
class Sign(ActivationBinarizer):
    """``y = sign(x)``; ``dy/dx := g(x)``.

    Args:
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown.
    """

    def __init__(self, *, surrogate: str = "approx_sign") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        return surrogate_sign(x, self.surrogate, self.progress)

    def comparison(self) -> Comparison:
        """The comparison as data: with zero."""
        return Comparison(Threshold(), self.surrogate, progress=self.progress)
