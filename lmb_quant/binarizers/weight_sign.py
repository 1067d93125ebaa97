# SPDX-License-Identifier: Apache-2.0
"""Signs of weights, with fixed surrogates or the adaptive triangle."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops import SURROGATES, surrogate_sign, triangle_width
from lmb_quant.ops.sign import triangle_sign

from ._base import Golden, WeightBinarizer
from ._registry import weight_binarizer

ADAPTIVE_TRIANGLE = "adaptive_triangle"


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

    Args:
        surrogate: ``ste``, ``identity``, ``approx_sign``, ``tanh`` or ``adaptive_triangle``.
        kappa: Width of the adaptive triangle in units of the filter's mean magnitude, > 0; a trainer hook may narrow
            it during training (:attr:`kappa`).

    Raises:
        LMBError: If the surrogate is unknown or kappa is not positive.
    """

    kappa: Tensor

    def __init__(self, *, surrogate: str = ADAPTIVE_TRIANGLE, kappa: float = 4.0) -> None:
        super().__init__()
        if surrogate != ADAPTIVE_TRIANGLE and surrogate not in SURROGATES:
            raise LMBError(unknown_name("surrogate", surrogate, [*SURROGATES, ADAPTIVE_TRIANGLE]))
        if not 0 < kappa < math.inf:
            raise LMBError(f"kappa: {kappa!r} is not allowed. Allowed: a finite number above 0.")
        self.surrogate = surrogate
        self.initial_kappa = kappa
        self.register_buffer("kappa", torch.tensor(kappa), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        if self.surrogate == ADAPTIVE_TRIANGLE:
            return triangle_sign(x, triangle_width(x, self.kappa))
        return surrogate_sign(x, self.surrogate)

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this binariser again."""
        options: dict[str, Any] = {"surrogate": self.surrogate}
        return {**options, "kappa": self.initial_kappa} if self.surrogate == ADAPTIVE_TRIANGLE else options
