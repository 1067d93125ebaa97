# SPDX-License-Identifier: Apache-2.0
"""Weighted sums of several binary tensors in place of one: ABC-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops import surrogate_sign

from ._base import ActivationBinarizer, Golden, WeightBinarizer
from ._registry import activation_binarizer, weight_binarizer

_MOST_BASES = 8
_RIDGE = 1e-10  # equal bases make the equations singular


def _check_bases(bases: int) -> int:
    if not 1 <= bases <= _MOST_BASES:
        raise LMBError(f"bases: {bases!r} is not allowed. Allowed: 1 to {_MOST_BASES}.")
    return bases


@weight_binarizer(
    "abcnet",
    source="ABC-Net, arXiv 1711.11294, section 3.1 (B_i by shifts, alpha by least squares) and eq. 7 (gradient)",
    # mean 0, std sqrt(5) = 2.24 (n in it): B_1 = sign(w - std) = (-1, -1, -1, 1), B_2 = sign(w + std) = (-1, 1, 1, 1).
    # B B^T = ((4, 0), (0, 4)), B w = (6, 6): alpha = 3/2 for both; y = (-3, 0, 0, 3), dy/dw = 3
    golden=Golden(
        x=(-3.0, -1.0, 1.0, 3.0),
        y=(-3.0, 0.0, 0.0, 3.0),
        grad_y=(1.0, 0.0, -2.0, 1.0),
        grad_x=(3.0, 0.0, -6.0, 3.0),
        options={"bases": 2},
    ),
)
class AbcWeight(WeightBinarizer):
    """``y = sum_m alpha_m B_m``, ``B_m = sign(w - mean(w) + u_m std(w))``, u_m = -1 + 2 (m - 1) / (M - 1).

    alpha minimises ``||w - sum_m alpha_m B_m||^2`` over the layer, as mean and std are of the layer; the gradient takes
    alpha as given: ``dy/dw := sum_m alpha_m``. One binary convolution is computed for each base, so the sum is exactly
    theirs. The values are the weights that the convolution uses: the recipe's ``scale`` is ``one``.

    Args:
        bases: M; with one, u = 0.

    Raises:
        LMBError: If ``bases`` is not 1 to 8.
    """

    is_pm1 = False

    def __init__(self, *, bases: int = 3) -> None:
        super().__init__()
        self.bases = _check_bases(bases)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        w = x.detach().double().flatten()
        shifts = torch.linspace(-1, 1, self.bases, dtype=w.dtype, device=w.device) if self.bases > 1 else w.new_zeros(1)
        signs = torch.where(w - w.mean() + shifts[:, None] * w.std(correction=0) >= 0, 1.0, -1.0).to(w.dtype)
        gram = signs @ signs.T + _RIDGE * w.numel() * torch.eye(self.bases, dtype=w.dtype, device=w.device)
        alpha = torch.linalg.solve(gram, signs @ w)
        y = (alpha @ signs).view_as(x).to(x.dtype)
        return y + alpha.sum().to(x.dtype) * (x - x.detach())


@activation_binarizer(
    "abcnet",
    source="ABC-Net, arXiv 1711.11294, section 3.2; first values of v and beta: this project's choice",
    # t = (-1, 1), beta = 1/2: H_1 = sign(x + 1), H_2 = sign(x - 1); g_1 = 1 in [-3/2, -1/2], g_2 = 1 in [1/2, 3/2]
    golden=Golden(
        x=(-2.0, -0.75, 0.0, 1.0, 1.25),
        y=(-1.0, 0.0, 0.0, 1.0, 1.0),
        grad_y=(1.0, 2.0, 1.0, 1.0, -1.0),
        grad_x=(0.0, 1.0, 0.0, 0.5, -0.5),
        options={"bases": 2},
    ),
)
class AbcActivation(ActivationBinarizer):
    """``y = sum_n beta_n H_n``, ``H_n = +1 if clip(x + v_n, 0, 1) >= 1/2 else -1``; beta and v learned, for the layer.

    ``dH_n/dx := 1`` where 0 <= x + v_n <= 1, ``dH_n/dv_n`` likewise. At first beta_n = 1/N, and the thresholds
    1/2 - v_n are spread evenly from -1 to 1, or 0 if there is one.

    Args:
        bases: N.

    Raises:
        LMBError: If ``bases`` is not 1 to 8.
    """

    is_pm1 = False

    def __init__(self, *, bases: int = 3) -> None:
        super().__init__()
        self.bases = _check_bases(bases)
        self.v = nn.Parameter(0.5 - (torch.linspace(-1, 1, bases) if bases > 1 else torch.zeros(1)))
        self.beta = nn.Parameter(torch.full((bases,), 1 / bases))

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        y = torch.zeros_like(x)
        for v, beta in zip(self.v.to(x.dtype), self.beta.to(x.dtype), strict=True):
            z = x + v
            y = y + beta * surrogate_sign(z + (z - 1).detach(), "ste")  # 2 z - 1, with the derivative 1
        return y
