# SPDX-License-Identifier: Apache-2.0
"""A factor for each pixel, from its real values: spatial re-scaling that a packed layer can have."""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import SpatialRescaler
from ._registry import rescaler


@rescaler("spatial", source="EBSR, SCALES (arXiv 2303.12270): spatial re-scaling; the limits are this project's choice")
class Spatial(SpatialRescaler):
    """The factor ``min(max(1/2 + z/4, 0), 1)``, z a 1 x 1 convolution of the input to one map.

    It is the logistic function's tangent at 0, limited: no exponential at run time. At first it is 1/2, as all
    weights are 0.

    Args:
        conv: The convolution whose output is scaled.

    Raises:
        LMBError: If the convolution changes height or width.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``(N, I, H, W)`` as it is, and the factor ``(N, 1, H, W)``."""
        return x, (self.spatial(x) / 4 + 0.5).clamp(0, 1)

    def packed_factor(self) -> Tensor:
        """Weights and offset of the factor."""
        assert self.spatial.bias is not None
        return torch.cat([self.spatial.weight.flatten() / 4, self.spatial.bias / 4 + 0.5])

    @torch.no_grad()
    def set_packed_factor(self, factor: Tensor) -> None:
        """Takes over weights and offset, ``(I + 1,)``."""
        assert self.spatial.bias is not None
        self.spatial.weight.copy_(4 * factor[:-1].view_as(self.spatial.weight))
        self.spatial.bias.copy_(4 * (factor[-1:] - 0.5))
