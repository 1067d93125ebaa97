# SPDX-License-Identifier: Apache-2.0
"""A network's figures in a few numbers: means over the layers that are binary or would be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .bits import Survival
from .measure import LayerFigures, NetworkFigures
from .sensitivity import WAYS as MEASURED
from .thresholds import TITLES

PARTS = ("pixels", "channels", "images")


@dataclass(frozen=True)
class Summary:
    """Means over the layers of a network's body; NaN where no layer has the figure.

    ``shares`` of the variance over pixels, channels and images; ``deviations`` the least and the greatest standard
    deviation of a layer's activations; ``ways`` by threshold a :class:`lmb_quant.analysis.bits.Survival` of means;
    ``real_colours`` as there, from real activations; ``errors`` by threshold the mean output error.
    """

    layers: int
    shares: dict[str, float]
    deviations: tuple[float, float]
    kurtosis: float
    ways: dict[str, Survival]
    real_colours: dict[str, float]
    errors: dict[str, float]


def mean_of(values: Iterable[float]) -> float:
    """Mean of the values that are numbers; NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def summarize(network: NetworkFigures) -> Summary:
    """Summarizes a network."""
    body = network.body
    spreads = [layer.spread for layer in body if layer.spread is not None]
    deviations = [spread.variance**0.5 for spread in spreads]
    names = [name for name in TITLES if any(name in layer.ways for layer in body)]
    return Summary(
        layers=len(body),
        shares={part: mean_of(spread.share(part) for spread in spreads) for part in PARTS},
        deviations=(min(deviations, default=math.nan), max(deviations, default=math.nan)),
        kurtosis=mean_of(spread.kurtosis for spread in spreads),
        ways={name: _means([layer.ways[name] for layer in body if name in layer.ways]) for name in names},
        real_colours=_by_key([layer.real_colours for layer in body]),
        errors={way: mean_of(layer.effects[way].error for layer in body if way in layer.effects) for way in MEASURED},
    )


def ranking(network: NetworkFigures, way: str = "zero") -> list[LayerFigures]:
    """The layers with a measured effect, that of the greatest output error first."""
    found = [layer for layer in network.layers if math.isfinite(_error(layer, way))]
    return sorted(found, key=lambda layer: -_error(layer, way))


def _error(layer: LayerFigures, way: str) -> float:
    return layer.effects[way].error if way in layer.effects else math.nan


def _means(survivals: list[Survival]) -> Survival:
    def mean(get: Callable[[Survival], float]) -> float:
        return mean_of(get(survival) for survival in survivals)

    return Survival(
        entropy=mean(lambda s: s.entropy),
        constant=mean(lambda s: s.constant),
        near=mean(lambda s: s.near),
        explained=mean(lambda s: s.explained),
        detail=mean(lambda s: s.detail),
        regions=_by_key([survival.regions for survival in survivals]),
        colours=_by_key([survival.colours for survival in survivals]),
    )


def _by_key(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: mean_of(row[key] for row in rows if key in row) for key in keys}
