# SPDX-License-Identifier: Apache-2.0
"""Spatial and channel-wise re-scaling: SCALES, the later form of EBSR."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.parts import zero_layer

from ._base import SpatialRescaler
from ._registry import rescaler


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
