# SPDX-License-Identifier: Apache-2.0
"""Adaptive binary sets: two learned activation values a layer, two weight values a filter (AdaBin)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.ops import check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden, WeightBinarizer
from ._registry import activation_binarizer, weight_binarizer

_SMALLEST_VARIANCE = 1e-12


@activation_binarizer(
    "adabin",
    source="AdaBin, arXiv 2208.08084; default surrogate as in its code",
    # At first alpha = 1, beta = 0: the values of sign with approx_sign.
    golden=Golden(
        x=(-2.0, -0.5, 0.0, 0.25, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 1.0, -1.0, 1.0),
        grad_x=(0.0, 1.0, 2.0, -1.5, 0.0),
    ),
)
class AdaBinActivation(ActivationBinarizer):
    """``y = alpha sign(u) + beta``, u = (x - beta) / alpha, alpha and beta learned, one of each a layer.

    ``dy/dx := g(u)``, ``dy/dalpha := sign(u) - u g(u)``, ``dy/dbeta := 1 - g(u)``; at first alpha = 1, beta = 0.

    There is no packed form: beyond a sum of signs, beta adds ``beta * (sum of the weights)`` to each output, which is
    not a constant where padding leaves taps out.

    Args:
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown.
    """

    is_pm1 = False

    def __init__(self, *, surrogate: str = "approx_sign") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        alpha, beta = self.alpha.to(x.dtype), self.beta.to(x.dtype)
        return alpha * surrogate_sign((x - beta) / alpha, self.surrogate, self.progress) + beta


@weight_binarizer(
    "adabin",
    source="AdaBin, arXiv 2208.08084",
    # beta = 0, alpha = r = sqrt(2), w_hat = (-r, 0, 0, r), s = sign(w_hat) = (-1, 1, 1, 1). With g = 1
    # dy_i = dw_i + (s_i - w_hat_i) dalpha, dalpha/dw = w_hat / 4; for y_1: s - w_hat = 1
    golden=Golden(
        x=(-2.0, 0.0, 0.0, 2.0),
        y=(-(2**0.5), 2**0.5, 2**0.5, 2**0.5),
        grad_y=(0.0, 1.0, 0.0, 0.0),
        grad_x=(-(2**0.5) / 4, 1.0, 0.0, 2**0.5 / 4),
        options={"surrogate": "identity"},
    ),
)
class AdaBinWeight(WeightBinarizer):
    """``y = alpha sign(w_hat) + beta``, w_hat = (w - beta) / alpha; alpha a filter's standard deviation, beta its mean.

    ``d sign(w_hat)/dw_hat := g(w_hat)``; alpha and beta pass their gradients on too. The values are the weights that
    the convolution uses: the recipe's ``scale`` is ``one``. There is no packed form: beta makes each output depend on
    the sum of the activations, which a packed layer does not compute.

    Args:
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown.
    """

    is_pm1 = False

    def __init__(self, *, surrogate: str = "ede") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        w = x.double().flatten(1)
        beta = w.mean(dim=1, keepdim=True)
        alpha = (w - beta).square().mean(dim=1, keepdim=True).clamp(min=_SMALLEST_VARIANCE).sqrt()
        y = alpha * surrogate_sign((w - beta) / alpha, self.surrogate, self.progress) + beta
        return y.view_as(x).to(x.dtype)
