# SPDX-License-Identifier: Apache-2.0
"""Spatial re-scaling, channel-wise shifting and re-scaling, all computed from the input: EBSR."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lmb_quant.parts import zero_layer

from ._base import SpatialRescaler
from ._registry import rescaler


@rescaler("ebsr", source="EBSR, arXiv 2303.12270v1, as read in a re-implementation of others")
class EBSR(SpatialRescaler):
    """Binarises ``x + shift``; the factor is ``sigmoid(spatial(x)) * sigmoid(scale)``.

    ``spatial`` is a 1 x 1 convolution to one map. ``shift`` (one number an input channel) and ``scale`` (one an output
    channel) are the result of one perceptron, I -> 2 I -> I + O with a ReLU between, of the means of the input's maps.
    At first the shift is 0 and both sigmoids are 1/2: all weights are 0 but those of the first half of the perceptron,
    which gives each mean's positive and negative part (this project's choice).

    Args:
        conv: The convolution whose output is scaled.

    Raises:
        LMBError: If the convolution changes height or width.
    """

    def __init__(self, conv: nn.Conv2d, /) -> None:
        super().__init__(conv)
        inputs, outputs = conv.in_channels, conv.out_channels
        self.sizes = (inputs, outputs)
        parts, result = (
            zero_layer(nn.Conv2d, inputs, 2 * inputs, 1),
            zero_layer(nn.Conv2d, 2 * inputs, sum(self.sizes), 1),
        )
        with torch.no_grad():
            parts.weight.copy_(torch.cat([torch.eye(inputs), -torch.eye(inputs)])[:, :, None, None])
        self.channels = nn.Sequential(nn.AdaptiveAvgPool2d(1), parts, nn.ReLU(), result)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(N, I, H, W)`` to the same, shifted, and the factor ``(N, O, H, W)``."""
        shift, scale = self.channels(x).split(self.sizes, dim=1)
        return x + shift, self.spatial(x).sigmoid() * scale.sigmoid()

    def macs(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Two for each output value: the map's factor and the channel's."""
        return 2 * math.prod(after)

    def additions(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Two for each input value: the mean of its map, and the shift."""
        return 2 * math.prod(before)
