# SPDX-License-Identifier: Apache-2.0
"""The figures as tables: those of the page, and CSV with all digits."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lmb_quant.analysis.measure import Analysis, LayerFigures, NetworkFigures
from lmb_quant.analysis.regression import COLOURS, REGIONS
from lmb_quant.analysis.sensitivity import WAYS as MEASURED
from lmb_quant.analysis.summary import PARTS, ranking, summarize
from lmb_quant.analysis.thresholds import TITLES

from .words import GAP, number, percent


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column is words, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def side_by_side(analysis: Analysis) -> Table:
    """The networks, a row each."""
    rows = []
    for network in analysis.networks:
        found = summarize(network)
        low, high = found.deviations
        rows.append(
            (
                network.label,
                str(found.layers),
                *(percent(found.shares[part]) for part in PARTS),
                number(high / low if low > 0 else math.nan, 1),
                number(found.kurtosis, 1),
            )
        )
    columns = ("network", "layers", *(f"over {part}" for part in PARTS), "over layers", "kurtosis")
    return Table("Spread of the activations", columns, tuple(rows))


def survival_table(network: NetworkFigures) -> Table:
    """One network: what survives by each threshold, means over its body."""
    found = summarize(network)
    rows = tuple(
        (
            TITLES[name],
            number(way.entropy),
            percent(way.constant),
            percent(way.near),
            percent(way.explained),
            percent(way.detail),
            *(percent(way.regions[region]) for region in REGIONS),
            percent(way.colours["colour"]),
            number(found.errors.get(name, math.nan), 3),
        )
        for name, way in found.ways.items()
    )
    columns = (
        "threshold", "bits a value", "constant maps", "near", "features", "detail", *REGIONS, "colour", "output error",
    )  # fmt: skip
    return Table("What survives in the bits", columns, rows)


def ranking_table(network: NetworkFigures) -> Table:
    """One network: its layers by what their bits cost the result."""
    loss = "dB lost" if network.upscale is not None else "other answers"
    rows = tuple(
        (
            layer.name,
            ", ".join(layer.roles) or ("binary" if layer.kind != "float" else ""),
            *(number(layer.effects[way].error, 3) if way in layer.effects else GAP for way in MEASURED),
            *(_loss(network, layer, way) for way in ("zero", "local3")),
        )
        for layer in ranking(network)
    )
    columns = ("layer", "part", *(TITLES[way] for way in MEASURED), f"{loss}, zero", f"{loss}, local mean")
    return Table("Layers by what their bits cost the result", columns, rows)


def _loss(network: NetworkFigures, layer: LayerFigures, way: str) -> str:
    loss = layer.effects[way].loss
    return number(loss) if network.upscale is not None else percent(loss)


def layer_words(network: NetworkFigures) -> list[tuple[str, str]]:
    """Layers of which there is something to say, and what."""
    return [(layer.name or "(the network itself)", word) for layer in network.layers for word in layer.words]


def layers_csv(analysis: Analysis) -> str:
    """A row for each layer: spread, kurtosis, weights, words."""
    columns = [
        "network", "layer", "kind", "roles", "body", "channels", "height", "width", "mean", "variance",
        *(f"variance over {part}" for part in PARTS), "kurtosis", "constant maps", "weight magnitude",
        "weights positive", "weights undecided", "weight kurtosis", "words",
    ]  # fmt: skip
    return _csv(columns, (_layer_row(network, layer) for network in analysis.networks for layer in network.layers))


def _layer_row(network: NetworkFigures, layer: LayerFigures) -> list[Any]:
    spread, weights = layer.spread, layer.weights
    values: list[Any] = [""] * 7
    if spread is not None:
        parts = [getattr(spread, part) for part in PARTS]
        values = [spread.mean, spread.variance, *parts, spread.kurtosis, spread.constant]
    of_weights: list[Any] = [""] * 4
    if weights is not None:
        of_weights = [weights.magnitude, weights.positive, weights.undecided, weights.kurtosis]
    size = layer.size or ("", "", "")
    known = [network.label, layer.name, layer.kind, " ".join(layer.roles), layer.is_body, *size]
    return [*known, *values, *of_weights, " ".join(layer.words)]


def bits_csv(analysis: Analysis) -> str:
    """A row for each layer and threshold; ``real`` stands for the activations themselves."""
    columns = [
        "network", "layer", "threshold", "entropy", "constant maps", "near", "features", "detail", *REGIONS, *COLOURS,
        "output error", *(f"output error {i}" for i in range(3)), "loss",
    ]  # fmt: skip
    rows: list[list[Any]] = []
    for network in analysis.networks:
        for layer in network.layers:
            if layer.real_colours:
                real = [layer.real_colours[plane] for plane in COLOURS]
                rows.append([network.label, layer.name, "real", *[""] * (5 + len(REGIONS)), *real, *[""] * 5])
            for name, way in layer.ways.items():
                effect = layer.effects.get(name)
                costs: list[Any] = [""] * 5
                if effect is not None:
                    three = [*effect.planes[:3], "", "", ""][:3]
                    costs = [effect.error, *three, effect.loss]
                known = [way.entropy, way.constant, way.near, way.explained, way.detail]
                regions = [way.regions[region] for region in REGIONS]
                colours = [way.colours[plane] for plane in COLOURS]
                rows.append([network.label, layer.name, name, *known, *regions, *colours, *costs])
    return _csv(columns, rows)


def flips_csv(analysis: Analysis) -> str:
    """A row for each layer and pair of checkpoints; empty where no network has any."""
    rows = [
        [network.label, layer, flip.first, flip.last, ratio]
        for network in analysis.networks
        for flip in network.flips
        for layer, ratio in flip.ratios.items()
    ]
    return _csv(["network", "layer", "first", "last", "flip ratio"], rows) if rows else ""


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Numbers with all digits; what is not a number is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if isinstance(value, float) and not math.isfinite(value) else value for value in row])
    return buffer.getvalue()
