# SPDX-License-Identifier: Apache-2.0
"""Activations 0 and 1, by rounding: DoReFa-Net with one bit."""

from __future__ import annotations

from torch import Tensor

from lmb_quant.ops import surrogate_sign

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer


@activation_binarizer(
    "dorefa",
    source="DoReFa-Net, arXiv 1606.06160, eq. 5 and section 2.4, k = 1",
    golden=Golden(
        x=(-0.5, 0.0, 0.25, 0.5, 1.0, 1.5),
        y=(0.0, 0.0, 0.0, 1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 3.0, 1.0, -1.0, 1.0),
        grad_x=(0.0, 1.0, 3.0, 1.0, -1.0, 0.0),
    ),
)
class DoReFa(ActivationBinarizer):
    """``y = round(clip(x, 0, 1))``, 1/2 rounds to 1; ``dy/dx := 1`` where 0 <= x <= 1.

    There is no packed form: the values are ``(1 + sign(2 x - 1)) / 2``, and the constant half adds half the sum of the
    weights to each output, which is not a constant where padding leaves taps out.
    """

    is_pm1 = False

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        return (1 + surrogate_sign(2 * x - 1, "ste")) / 2
