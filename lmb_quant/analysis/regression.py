# SPDX-License-Identifier: Apache-2.0
"""What a linear map makes of the values around a pixel, on pixels that it was not fitted to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .colour import PLANES
from .thresholds import Means

REGIONS = ("edges", "texture", "flat")
COLOURS = (*PLANES, "colour")
"""The image's planes, and both colour differences together."""

_PIXELS = 6144
_MAX_CHANNELS = 32
_TAPS = 9
_DETAIL = 5  # pixels of the window whose mean is not detail
_PIXELS_PER_PREDICTOR = 4
_RIDGE = 1e-3  # times the number of pixels: bits have a variance of 1 or less
_LEAST = 2  # channels: fewer are no features to reconstruct from each other


@dataclass(frozen=True, eq=False)
class Sample:
    """Pixels drawn from a layer's maps: in the left half of each those to fit, in the right half those held out.

    ``places`` are image, row and column; ``fit`` says which are for fitting; ``channels`` are those that take part;
    ``wanted`` are the targets, ``(pixels, ...)``: features, their detail, the image's planes. ``parts`` are the figures
    to compute, by name: columns of the targets, and which held-out pixels. ``words`` says why there is no regression,
    where that is so.
    """

    places: tuple[Tensor, Tensor, Tensor]
    fit: Tensor
    channels: Tensor
    wanted: Tensor
    parts: dict[str, tuple[slice, Tensor]]
    totals: dict[str, float]
    words: str


def draw(means: Means, planes: Tensor, regions: Tensor) -> Sample:
    """Draws pixels, always the same.

    Args:
        means: A layer's activations, ``(N, C, H, W)``, and their local means.
        planes: The image's planes at the layer's size, ``(N, P, H, W)``.
        regions: The number of each pixel's region in :data:`REGIONS`, ``(N, H, W)``.
    """
    x = means.x
    images, channels, height, width = x.shape
    generator = torch.Generator().manual_seed(0)
    count = min(height * width, max(1, _PIXELS // images))
    flat = torch.stack([torch.randperm(height * width, generator=generator)[:count] for _ in range(images)])
    n = torch.arange(images).repeat_interleave(count)
    y, column = (flat // width).flatten(), (flat % width).flatten()
    fit = column < width // 2
    used = min(channels, _MAX_CHANNELS, int(fit.sum()) // (_PIXELS_PER_PREDICTOR * _TAPS))
    few = used < min(_LEAST, channels) or bool(fit.all())
    chosen = torch.linspace(0, channels - 1, max(used, 1)).round().long()
    features, detail = (part[n, :, y, column][:, chosen] for part in (x, x - means.of(_DETAIL)))
    wanted = torch.cat([features, detail, planes[n, :, y, column]], dim=1)
    parts = _parts(len(chosen), ~fit, regions[n, y, column])
    return Sample(
        places=(n, y, column),
        fit=fit,
        channels=chosen,
        wanted=wanted,
        parts=parts,
        totals={name: _deviation(wanted[where, columns]) for name, (columns, where) in parts.items()},
        words=f"{int(fit.sum())} pixels are too few for a regression; more or larger images help" if few else "",
    )


def _parts(count: int, held_out: Tensor, regions: Tensor) -> dict[str, tuple[slice, Tensor]]:
    features, first = slice(0, count), 2 * count
    found = {"features": (features, held_out), "detail": (slice(count, first), held_out)}
    found |= {region: (features, held_out & (regions == i)) for i, region in enumerate(REGIONS)}
    found |= {plane: (slice(first + i, first + i + 1), held_out) for i, plane in enumerate(PLANES)}
    differences = slice(first + PLANES.index("Cb"), first + PLANES.index("Cr") + 1)
    return found | {"colour": (differences, held_out)}


def _deviation(wanted: Tensor) -> float:
    """Sum of the squared deviations from the columns' means; 0 where there are none but those of rounding."""
    if len(wanted) < 2:
        return 0.0
    values = wanted.double()
    total = float((values - values.mean(0)).square().sum())
    return total if total > 1e-12 * float(values.square().sum()) else 0.0


def explained(values: Tensor, sample: Sample) -> dict[str, float]:
    """Explained variance of each part of a sample's targets, by ridge regression from the 3 x 3 values around a pixel.

    Args:
        values: ``(N, C, H, W)``: bits as -1 and +1, or real values of variance about 1. Outside of the frame are zeros.
        sample: The pixels.

    Returns:
        By part ``1 - squared error / squared deviation`` over the held-out pixels, at most 1; NaN where the pixels are
        too few or do not vary.
    """
    if sample.words:
        return dict.fromkeys(sample.parts, math.nan)
    around = _around(values, sample)
    middle, level = around[sample.fit].mean(0), sample.wanted[sample.fit].mean(0)
    centred = around - middle
    given = centred[sample.fit]
    gram = (given.T @ given).double()
    gram.diagonal().add_(_RIDGE * max(len(given), float(gram.diagonal().mean())))
    both = (given.T @ (sample.wanted[sample.fit] - level)).double()
    weights = torch.cholesky_solve(both, torch.linalg.cholesky(gram)).float()
    errors = (centred @ weights + level - sample.wanted).square()
    found = {}
    for name, (columns, where) in sample.parts.items():
        total = sample.totals[name]
        found[name] = 1 - float(errors[where, columns].double().sum()) / total if total > 0 else math.nan
    return found


def _around(values: Tensor, sample: Sample) -> Tensor:
    n, y, x = sample.places
    padded = F.pad(values[:, sample.channels], (1, 1, 1, 1))
    return torch.cat([padded[n, :, y + dy, x + dx] for dy in range(3) for dx in range(3)], dim=1)
