# SPDX-License-Identifier: Apache-2.0
"""The thresholds that are compared, each fitted to a layer's activations where it has numbers to fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from torch import Tensor, nn

from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.ops import Threshold
from lmb_quant.ops.binary_conv2d.reference import input_bits
from lmb_quant.ops.local_mean import local_mean

from .statistics import CONSTANT

OWN = "own"
"""The threshold that a binary layer has."""

_GAIN = 0.5
_SAMPLES = 4096


class Means:
    """A layer's activations ``x``, ``(N, C, H, W)``, float32, and their local means, each computed once."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._found: dict[int | str, Tensor] = {}

    def of(self, window: int | str) -> Tensor:
        """The mean by a window, as :func:`lmb_quant.ops.local_mean.local_mean`."""
        if window not in self._found:
            self._found[window] = local_mean(self.x, window)
        return self._found[window]

    @cached_property
    def deviation(self) -> Tensor:
        """The standard deviation of each map, ``(N, C, 1, 1)``."""
        return self.x.std(dim=(2, 3), correction=0, keepdim=True)


@dataclass(frozen=True)
class Way:
    """A way to make bits of activations; ``title`` is for people, ``color`` for plots."""

    name: str
    title: str
    color: str
    make: Callable[[Means], Threshold]


def _shift(means: Means, gain: float = 0.0) -> Tensor:
    """For each channel the number that splits ``x - gain * local mean`` best in two (Otsu)."""
    values = means.x if gain == 0 else means.x - gain * means.of(3)
    values = values.transpose(0, 1).flatten(1)
    step = max(1, values.shape[1] // _SAMPLES)
    return torch.tensor([_split(channel) for channel in values[:, ::step].numpy()])


def _split(values: NDArray[np.float32]) -> float:
    low, high = float(values.min()), float(values.max())
    if high - low <= CONSTANT * max(abs(low), abs(high)):
        return low
    return float(threshold_otsu(values))


WAYS = (
    Way("zero", "zero", "#d1495b", lambda means: Threshold("none")),
    Way("shift", "a number per channel", "#edae49", lambda means: Threshold("channel", shift=_shift(means))),
    Way("global", "mean of the map", "#8d6a9f", lambda means: Threshold("global")),
    Way("local3", "local mean 3 x 3", "#00798c", lambda means: Threshold("local", 3)),
    Way("local7", "local mean 7 x 7", "#66a182", lambda means: Threshold("local", 7)),
    Way(
        "gain3",
        "half the local mean and a number per channel",
        "#30638e",
        lambda means: Threshold("local", 3, _shift(means, _GAIN), torch.full((means.x.shape[1],), _GAIN)),
    ),
)
"""``zero``: a sign. ``shift``: as a learned shift (RSign), fitted by Otsu's method. ``global``, ``local3``, ``local7``:
means. ``gain3``: gain and shift as in the recipe ``lmb-plus``, the gain at its initial value, the shift by Otsu."""

WAY = {way.name: way for way in WAYS}

TITLES = {way.name: way.title for way in WAYS} | {OWN: "the layer's own"}
COLORS = {way.name: way.color for way in WAYS} | {OWN: "#222222"}


def bits_by(threshold: Threshold, x: Tensor) -> Tensor:
    """The bits of ``(N, C, H, W)``, float32; bool, same shape."""
    return input_bits(x, threshold.kind, threshold.window, threshold.shift, threshold.gain)


def distance(threshold: Threshold, means: Means) -> Tensor:
    """How far each activation is above its threshold, ``(N, C, H, W)``."""
    x = means.x
    value = x if threshold.shift is None else x - threshold.shift.view(1, -1, 1, 1)
    if threshold.kind in ("none", "channel"):
        return value
    mean = means.of("global" if threshold.kind == "global" else threshold.window)
    return value - (mean if threshold.gain is None else threshold.gain.view(1, -1, 1, 1) * mean)


def own_threshold(module: nn.Module) -> tuple[Threshold | None, str]:
    """The threshold that a layer has; or None and, for a binary layer, the reason."""
    if isinstance(module, PackedBinaryConv2d):
        return module.threshold, ""
    if not isinstance(module, BinaryConv2d):
        return None, ""
    threshold = module.binarize_input.packed_threshold()
    if threshold is None:
        return None, f"its own bits ({module.config.activation}) are no comparison with one threshold"
    return threshold, ""
