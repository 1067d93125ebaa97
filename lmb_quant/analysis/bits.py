# SPDX-License-Identifier: Apache-2.0
"""What survives binarisation: the bits themselves, and what can be made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lmb_quant.ops import Threshold

from .regression import COLOURS, REGIONS, Sample, explained
from .statistics import constant_maps
from .thresholds import Means, bits_by, distance

NEAR = 0.1
"""A value is near its threshold within this share of its map's standard deviation."""


@dataclass(frozen=True)
class Survival:
    """What is left of a layer's activations in their bits.

    ``entropy``: bits a value, mean over maps, at most 1. ``constant``: share of maps whose bits are all equal.
    ``near``: share of values near their threshold. ``explained``: variance of the features, on held-out pixels, that
    ridge regression from the bits around each pixel explains, at most 1; ``detail`` the same of the features less
    their mean over 5 x 5 pixels; in ``regions`` that of the features within edges, texture and flat parts. ``colours``
    is the explained variance of the image's planes. What could not be computed is NaN, and the layer's words say why.
    """

    entropy: float
    constant: float
    near: float
    explained: float
    detail: float
    regions: dict[str, float]
    colours: dict[str, float]


def survival(threshold: Threshold, means: Means, sample: Sample) -> Survival:
    """Binarises a layer's activations, finite ones, and measures what is left."""
    signs = bits_by(threshold, means.x).float()
    ones = signs.mean(dim=(2, 3))
    entropy = torch.special.entr(ones) + torch.special.entr(1 - ones)
    found = explained(signs * 2 - 1, sample)
    return Survival(
        entropy=float(entropy.mean()) / math.log(2),
        constant=float(((ones == 0) | (ones == 1)).float().mean()),
        near=_near(threshold, means),
        explained=found["features"],
        detail=found["detail"],
        regions={region: found[region] for region in REGIONS},
        colours={plane: found[plane] for plane in COLOURS},
    )


def real_colours(x: Tensor, sample: Sample) -> dict[str, float]:
    """Explained variance of the image's planes from the activations themselves: the bound for those from bits."""
    deviation = x.std(dim=(0, 2, 3), correction=0, keepdim=True)
    centred = (x - x.mean(dim=(0, 2, 3), keepdim=True)) / torch.where(deviation > 0, deviation, 1.0)
    found = explained(centred, sample)
    return {plane: found[plane] for plane in COLOURS}


def _near(threshold: Threshold, means: Means) -> float:
    varying = ~constant_maps(means.x)
    if not bool(varying.any()):
        return math.nan
    near = distance(threshold, means).abs() <= NEAR * means.deviation
    return float(near[varying].float().mean())
