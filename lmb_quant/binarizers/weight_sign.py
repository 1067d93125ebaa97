# SPDX-License-Identifier: Apache-2.0
"""Signs of weights, with fixed surrogates or the adaptive triangle."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops import SURROGATES, check_weight_scale, surrogate_sign, triangle_width, weight_scale
from lmb_quant.ops.sign import triangle_sign

from ._base import Golden, WeightBinarizer
from ._registry import weight_binarizer

ADAPTIVE_TRIANGLE = "adaptive_triangle"
NONE = "none"


@weight_binarizer(
    "sign",
    source="BNN, arXiv 1602.02830, eq. 1; adaptive triangle: LMB (abstract), its form is this project's choice",
    # mean|w| = 0.5, kappa = 2: t = 1, g(w) = 2 max(0, 1 - |w|)
    golden=Golden(
        x=(-1.0, -0.25, 0.0, 0.75),
        y=(-1.0, -1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 2.0, -1.0),
        grad_x=(0.0, 1.5, 4.0, -0.5),
        options={"surrogate": "adaptive_triangle", "kappa": 2.0},
    ),
)
class WeightSign(WeightBinarizer):
    """``y = sign(w)``; ``dy/dw := g(w)``, or for the adaptive triangle ``(2/t) max(0, 1 - |w|/t)``, t = kappa mean|W|.

    The unit multiplies y by the recipe's scale alpha, so ``d(alpha sign(w))/dw = alpha g(w)``. Some methods let the
    gradient pass by the scale, ``d(alpha sign(w))/dw := g(w)``: ``straight_through`` divides it by alpha here.

    Args:
        surrogate: A name known to :func:`lmb_quant.ops.surrogate_derivative`, or ``adaptive_triangle``.
        kappa: Width of the adaptive triangle in units of the filter's mean magnitude, > 0; a trainer hook may narrow
            it during training (:attr:`kappa`).
        straight_through: A weight scale, that of the recipe; or ``none``.

    Raises:
        LMBError: If the surrogate or the scale is unknown, or kappa is not positive.
    """

    kappa: Tensor

    def __init__(self, *, surrogate: str = ADAPTIVE_TRIANGLE, kappa: float = 4.0, straight_through: str = NONE) -> None:
        super().__init__()
        if surrogate != ADAPTIVE_TRIANGLE and surrogate not in SURROGATES:
            raise LMBError(unknown_name("surrogate", surrogate, [*SURROGATES, ADAPTIVE_TRIANGLE]))
        if not 0 < kappa < math.inf:
            raise LMBError(f"kappa: {kappa!r} is not allowed. Allowed: a finite number above 0.")
        self.surrogate = surrogate
        self.straight_through = NONE if straight_through == NONE else check_weight_scale(straight_through)
        self.initial_kappa = kappa
        self.register_buffer("kappa", torch.tensor(kappa), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        if self.surrogate == ADAPTIVE_TRIANGLE:
            y = triangle_sign(x, triangle_width(x, self.kappa))
        else:
            y = surrogate_sign(x, self.surrogate, self.progress)
        if self.straight_through == NONE:
            return y
        alpha = weight_scale(x, self.straight_through).clamp(min=torch.finfo(x.dtype).tiny).view(-1, 1, 1, 1)
        return y.detach() + (y - y.detach()) / alpha

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this binariser again."""
        options: dict[str, Any] = {"surrogate": self.surrogate, "straight_through": self.straight_through}
        return {**options, "kappa": self.initial_kappa} if self.surrogate == ADAPTIVE_TRIANGLE else options
