# SPDX-License-Identifier: Apache-2.0
"""Feature maps of one photograph, and their bits by each threshold, as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmb_quant.ops import Threshold

from .layers import Layer
from .thresholds import bits_by

LAYERS = 4
"""Layers of a network that are shown, evenly from its depth."""


@dataclass(frozen=True, eq=False)
class MapPicture:
    """One map of one layer: ``real`` and, by threshold, ``bits``; ``(H, W)``, uint8."""

    layer: str
    channel: int
    real: NDArray[np.uint8]
    bits: dict[str, NDArray[np.uint8]]


def shown_layers(layers: Sequence[Layer]) -> set[str]:
    """Names of the layers whose maps are shown."""
    body = [layer.name for layer in layers if layer.is_body] or [layer.name for layer in layers]
    return {body[int(i)] for i in np.linspace(0, len(body) - 1, min(LAYERS, len(body))).round()}


def map_picture(layer: Layer, x: Tensor, thresholds: dict[str, Threshold]) -> MapPicture:
    """Pictures the map of the first image that varies most against its channel's mean over all images.

    Args:
        layer: The layer.
        x: Its activations, ``(N, C, H, W)``, finite.
        thresholds: By name.
    """
    first = x[:1]
    channel = int(first.std(dim=(2, 3), correction=0)[0].argmax())
    return MapPicture(
        layer=layer.name,
        channel=channel,
        real=_gray(first[0, channel]),
        bits={
            name: bits_by(way, first)[0, channel].to(torch.uint8).mul(255).numpy() for name, way in thresholds.items()
        },
    )


def _gray(x: Tensor) -> NDArray[np.uint8]:
    low, high = (torch.quantile(x, q) for q in (0.01, 0.99)) if x.numel() < 1 << 24 else (x.min(), x.max())
    if bool(high <= low):
        low, high = x.min() - 0.5, x.max() + 0.5
    return ((x - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
