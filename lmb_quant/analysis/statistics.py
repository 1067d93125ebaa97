# SPDX-License-Identifier: Apache-2.0
"""How activations are spread: over pixels, channels and images; how heavy their tails are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

CONSTANT = 1e-6
"""Range of a map, relative to its largest magnitude, that rounding leaves of a constant."""


@dataclass(frozen=True)
class Spread:
    """A layer's activations in a few numbers.

    ``pixels``, ``channels`` and ``images`` are variances that add up to that of all values: the mean over maps of the
    variance within a map; the variance over channels of their means; the mean over channels of the variance of a
    channel's mean over images. ``kurtosis`` is the mean excess kurtosis of the maps (0: normal), NaN where no map
    varies. ``constant`` is the share of maps in which nothing varies.
    """

    mean: float
    pixels: float
    channels: float
    images: float
    kurtosis: float
    constant: float

    @property
    def variance(self) -> float:
        """Of all values."""
        return self.pixels + self.channels + self.images

    def share(self, part: str) -> float:
        """A part of the variance as a share of it, in [0, 1]; NaN where nothing varies."""
        return float(getattr(self, part)) / self.variance if self.variance > 0 else math.nan


def constant_maps(x: Tensor) -> Tensor:
    """Which maps of ``(N, C, H, W)`` hold one value, but for rounding; bool ``(N, C)``."""
    low, high = x.amin(dim=(2, 3)), x.amax(dim=(2, 3))
    return high - low <= CONSTANT * torch.maximum(low.abs(), high.abs())


def spread(x: Tensor) -> Spread:
    """Computes the spread of ``(N, C, H, W)``, finite values."""
    values = x.double()
    means = values.mean(dim=(2, 3))
    constant = constant_maps(x)
    varying = values[~constant].flatten(1).numpy()
    kurtosis = float(stats.kurtosis(varying, axis=1).mean()) if varying.size else math.nan
    return Spread(
        mean=float(means.mean()),
        pixels=float(values.var(dim=(2, 3), correction=0).mean()),
        channels=float(means.mean(0).var(correction=0)),
        images=float(means.var(0, correction=0).mean()),
        kurtosis=kurtosis,
        constant=float(constant.double().mean()),
    )
