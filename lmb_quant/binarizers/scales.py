# SPDX-License-Identifier: Apache-2.0
"""Layer-wise scaling factor, spatial and channel-wise re-scaling: SCALES, the later form of EBSR."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops import check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden, SpatialRescaler, zero_layer
from ._registry import activation_binarizer, rescaler


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

    def __init__(self, channels: int = 1, /, *, surrogate: str = "approx_sign") -> None:
        super().__init__()
        self.surrogate = check_surrogate(surrogate)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(channels))

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Makes it for the convolution's input channels."""
        return cls(conv.in_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        alpha, beta = self.log_alpha.exp().to(x.dtype), self.beta.to(x.dtype).view(1, -1, 1, 1)
        return alpha * surrogate_sign((x - beta) / alpha, self.surrogate, self.progress)

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this binariser again."""
        return {"surrogate": self.surrogate}


@rescaler("scales", source="SCALES, arXiv 2303.12270v2 (abstract); the forms of both parts are from memory")
class Scales(SpatialRescaler):
    """The factor ``sigmoid(spatial(x)) * sigmoid(channel(means of x's maps))``.

    ``spatial`` is a 1 x 1 convolution to one map; ``channel`` a convolution along the channels with a kernel of 5. At
    first both sigmoids are 1/2: all weights are 0 (this project's choice).

    Args:
        conv: The convolution whose output is scaled.

    Raises:
        LMBError: If the convolution changes height, width or the number of channels.
    """

    def __init__(self, conv: nn.Conv2d, /) -> None:
        super().__init__(conv)
        if conv.in_channels != conv.out_channels:
            raise LMBError(f"rescaler 'scales': {conv} changes the number of channels. Allowed: as many as it reads.")
        self.channel = zero_layer(nn.Conv1d, 1, 1, 5, padding=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``(N, C, H, W)`` as it is, and the factor of the same size."""
        channel = self.channel(x.mean(dim=(2, 3))[:, None]).sigmoid()[:, 0, :, None, None]
        return x, self.spatial(x).sigmoid() * channel

    def macs(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Two for each output value: the map's factor and the channel's."""
        return 2 * math.prod(after)

    def additions(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """One for each input value: the mean of its map."""
        return math.prod(before)
