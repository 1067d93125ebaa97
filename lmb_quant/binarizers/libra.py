# SPDX-License-Identifier: Apache-2.0
"""Balanced, standardised weights and their bit-shift scale: Libra-PB of IR-Net."""

from __future__ import annotations

import torch
from torch import Tensor

from lmb_quant.ops import check_surrogate, register_weight_scale, surrogate_sign

from ._base import Golden, WeightBinarizer
from ._registry import weight_binarizer

_SMALLEST_VARIANCE = 1e-12


def standardized(weight: Tensor) -> Tensor:
    """Filters of mean 0 and standard deviation 1: ``(w - mean(w)) / std(w)``, n - 1 in std as in IR-Net's code.

    Args:
        weight: ``(O, I, Kh, Kw)``, floating point.

    Returns:
        Same shape, float32; zeros for a filter whose weights are all equal (its mean is taken in float64).
    """
    w = weight.double().flatten(1)
    w = w - w.mean(dim=1, keepdim=True)
    variance = w.square().sum(dim=1, keepdim=True) / max(w.shape[1] - 1, 1)
    return (w / variance.clamp(min=_SMALLEST_VARIANCE).sqrt()).float().view_as(weight)


@register_weight_scale("bit_shift")
def bit_shift(weight: Tensor) -> Tensor:
    """``2^s``, s = round(log2 mean|w_hat|), of the standardised weights (IR-Net, arXiv 1909.10788, section 3.2)."""
    return torch.exp2(standardized(weight).abs().mean(dim=(1, 2, 3)).log2().round()).to(weight.dtype)


@weight_binarizer(
    "libra",
    source="IR-Net, arXiv 1909.10788, section 3.2 (Libra parameter binarization)",
    # mean 0, std sqrt(4/3): w_hat = +-h, h = sqrt(3)/2. With G = grad_y g = (1, 0, 0, 0):
    # dL/dw = (G - mean G - w_hat (G . w_hat) / (n - 1)) / std, G . w_hat = -h, so h (1 - 1/4 - 1/4, -1/4 - 1/4, 0, 0)
    golden=Golden(
        x=(-1.0, -1.0, 1.0, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0),
        grad_y=(1.0, 0.0, 0.0, 0.0),
        grad_x=(3**0.5 / 4, -(3**0.5) / 4, 0.0, 0.0),
        options={"surrogate": "identity"},
    ),
)
class Libra(WeightBinarizer):
    """``y = sign(w_hat)``, w_hat the standardised filter; ``dy/dw_hat := g(w_hat)``, ``dw_hat/dw`` in full.

    The scale that belongs to it is ``bit_shift``.

    Args:
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown.
    """

    def __init__(self, *, surrogate: str = "ede") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        return surrogate_sign(standardized(x), self.surrogate, self.progress).to(x.dtype)
