# SPDX-License-Identifier: Apache-2.0
"""Activations with a layer-wise scaling factor: SCALES, the later form of EBSR; its rescaler has the same name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.ops import check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer


@activation_binarizer(
    "scales",
    source="SCALES, arXiv 2303.12270v2 (abstract): layer-wise scaling factor; its form here is from memory",
    # At first alpha = 1, beta = 0: the values of sign with approx_sign.
    golden=Golden(
        x=(-2.0, -0.5, 0.0, 0.25, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 1.0, -1.0, 1.0),
        grad_x=(0.0, 1.0, 2.0, -1.5, 0.0),
    ),
)
class ScalesActivation(ActivationBinarizer):
    """``y = alpha sign(u)``, u = (x - beta) / alpha; alpha > 0 learned for the layer, beta for each channel.

    ``dy/dx := g(u)``, ``dy/dalpha := sign(u) - u g(u)``, ``dy/dbeta := -g(u)``; at first alpha = 1, beta = 0. What is
    trained is the logarithm of alpha, so that alpha stays positive (this project's choice).

    Args:
        channels: C of the input.
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown.
    """

    is_pm1 = False
    is_per_channel = True

    def __init__(self, channels: int = 1, /, *, surrogate: str = "approx_sign") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        alpha, beta = self.log_alpha.exp().to(x.dtype), self.beta.to(x.dtype).view(1, -1, 1, 1)
        return alpha * surrogate_sign((x - beta) / alpha, self.surrogate, self.progress)
