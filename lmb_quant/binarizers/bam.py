# SPDX-License-Identifier: Apache-2.0
"""Signs of what the layers of a block accumulate: the bit accumulation mechanism, BAM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.ops import check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden, WeightBinarizer
from ._registry import activation_binarizer, weight_binarizer
from .libra import standardized

_SOURCE = "BAM, ECCV 2020, doi 10.1007/978-3-030-58548-8_6"


@activation_binarizer(
    "bam",
    source=f"{_SOURCE}; what is left open: docs/methods.md",
    # E(A) = abs(x), S = (-1400, -200, 200, 1400), mean 0, std 1000: u = S / 1000, g = (0, 1, 1, 0), G = (0, 1, 0, 0);
    # dL/dS = (G - mean G - u mean(G u)) / 1000, mean G = 1/4, mean(G u) = -1/20; dS/dx = 2 |x|
    golden=Golden(
        x=(-(1400**0.5), -(200**0.5), 200**0.5, 1400**0.5),
        y=(-1.0, -1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 0.0, 1.0),
        grad_x=(-0.64e-3 * 1400**0.5, 1.48e-3 * 200**0.5, -0.48e-3 * 200**0.5, -0.36e-3 * 1400**0.5),
    ),
)
class BamActivation(ActivationBinarizer):
    """``y = sign(BN(S_n))``, ``S_n = S_{n-1} + beta_n E(A_n) A_n``: layer n of a block reads the sum of all before.

    A_n is the layer's input, E(A_n) the mean of abs(A_n) over the channels, a map; beta_n is learned, 1 at first. BN is
    a batch norm of the layer's own. ``d sign(u)/du := g(u)``. A layer that shares no state is a block of one.

    Args:
        channels: C of the input.
        surrogate: g.

    Raises:
        LMBError: If the surrogate is unknown; from ``forward``, if the layers of a block differ in size.
    """

    additions_per_value = 2  # the mean over the channels, the running sum
    macs_per_value = 1  # the map; the norm becomes a threshold

    is_per_channel = True

    def __init__(self, channels: int = 1, /, *, surrogate: str = "ste") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)
        self.beta = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        term = self.beta.to(x.dtype) * x.abs().mean(dim=1, keepdim=True) * x
        total = term if self.place is None else self.place.add(term)
        return surrogate_sign(self.norm(total), self.surrogate, self.progress).to(x.dtype)


@weight_binarizer(
    "bam",
    source=f"{_SOURCE}; what is left open: docs/methods.md",
    # As libra, alpha = 1: mean 0, std sqrt(4/3), w_hat = +-h, h = sqrt(3)/2, gradient of the standardisation
    golden=Golden(
        x=(-1.0, -1.0, 1.0, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0),
        grad_y=(1.0, 0.0, 0.0, 0.0),
        grad_x=(3**0.5 / 4, -(3**0.5) / 4, 0.0, 0.0),
    ),
)
class BamWeight(WeightBinarizer):
    """``y = sign(BN(V_n))``, ``V_n = V_{n-1} + alpha_n W_n``: layer n of a block reads the sum of all weights before.

    alpha_n is learned, 1 at first. BN standardises each filter; ``d sign(v)/dv := 1``, and the gradient flows through
    BN to the weights of all layers before. The scale that belongs to it is ``channel_mean``, of W_n alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(O, I, Kh, Kw)``."""
        term = self.alpha.to(x.dtype) * x
        total = term if self.place is None else self.place.add(term)
        return surrogate_sign(standardized(total), "identity").to(x.dtype)
