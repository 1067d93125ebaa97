# SPDX-License-Identifier: Apache-2.0
"""Curves over layers, bars by region and colour, and the ranking; each as SVG for the page and as PNG."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmb_quant.analysis.bits import Survival
from lmb_quant.analysis.measure import Analysis, LayerFigures, NetworkFigures
from lmb_quant.analysis.regression import REGIONS
from lmb_quant.analysis.summary import PARTS, ranking, summarize
from lmb_quant.analysis.thresholds import COLORS, TITLES
from lmb_quant.page import STYLE, add_legend, make_figure, to_svg

from .words import number

_NETWORK_COLORS = ("#00798c", "#d1495b", "#8d6a9f", "#66a182", "#edae49", "#30638e")
_PART_COLORS = {"pixels": "#00798c", "channels": "#edae49", "images": "#d1495b"}
_PLANES = {"red": "#c0392b", "green": "#27864a", "blue": "#2c5fb3", "colour": "#777777"}
_RANKED = 12
_NAMED = 40
_DPI = 120
_LINE: Any = {"linewidth": 1.3, "marker": "o", "markersize": 3}


@dataclass(frozen=True, eq=False)
class Plot:
    """A plot, the name of its file, and what it shows."""

    name: str
    title: str
    svg: str
    png: bytes


def slug(label: str) -> str:
    """A label as part of a file's name; where it has other characters, with a checksum that tells them apart."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.") or "network"
    return plain if plain == label else f"{plain}-{zlib.crc32(label.encode()):08x}"


def shared_plots(analysis: Analysis) -> list[Plot]:
    """All networks in one plot: standard deviation and kurtosis over the layers."""
    values: list[tuple[str, str, Callable[[LayerFigures], float]]] = [
        ("deviation", "standard deviation of a layer's activations", _deviation),
        ("kurtosis", "excess kurtosis of a layer's maps, mean", _kurtosis),
    ]
    return [_lines_by_network(analysis, *value) for value in values]


def network_plots(network: NetworkFigures) -> list[Plot]:
    """One network's plots."""
    return [*_network_plots(network)]


def _network_plots(network: NetworkFigures) -> Iterator[Plot]:
    layers = [layer for layer in network.layers if layer.spread is not None]
    if not layers:
        return
    yield _shares(network, layers)
    yield _lines_by_way(network, layers, "features", "explained variance of the features", lambda s: s.explained)
    yield _lines_by_way(network, layers, "detail", "explained variance of their detail", lambda s: s.detail)
    yield _lines_by_way(network, layers, "entropy", "entropy of the bits", lambda s: s.entropy)
    yield _lines_by_way(network, layers, "constant", "share of maps with equal bits", lambda s: s.constant)
    if network.body:
        yield _regions(network)
        yield _colours(network)
    if ranking(network):
        yield _ranking(network)
    if any(layer.weights is not None for layer in layers):
        yield _weights(network, layers)
    if network.flips:
        yield _flips(network)


def _deviation(layer: LayerFigures) -> float:
    return math.nan if layer.spread is None else layer.spread.variance**0.5


def _kurtosis(layer: LayerFigures) -> float:
    return math.nan if layer.spread is None else layer.spread.kurtosis


def _lines_by_network(analysis: Analysis, name: str, y: str, value: Callable[[LayerFigures], float]) -> Plot:
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("depth: first layer 0, last layer 1", y)
        titles = {}
        for i, network in enumerate(analysis.networks):
            layers = [layer for layer in network.layers if layer.spread is not None]
            depth = np.linspace(0, 1, len(layers)) if len(layers) > 1 else np.zeros(len(layers))
            color = _NETWORK_COLORS[i % len(_NETWORK_COLORS)]
            values = [value(layer) for layer in layers]
            titles[f"{name}-{i}"] = network.label
            axes.plot(depth, values, color=color, label=network.label, gid=f"{name}-{i}", **_LINE)
        if all(v > 0 for line in axes.get_lines() for v in np.asarray(line.get_ydata(), float) if math.isfinite(v)):
            axes.set_yscale("log")
        add_legend(figure, axes)
        return _plot(name, y[0].upper() + y[1:], figure, titles)


def _shares(network: NetworkFigures, layers: Sequence[LayerFigures]) -> Plot:
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("layer", "share of the variance", 3.2)
        bottom = np.zeros(len(layers))
        titles = {}
        for part in PARTS:
            shares = np.array([math.nan if layer.spread is None else layer.spread.share(part) for layer in layers])
            shares = np.nan_to_num(shares, nan=0.0)  # nothing varies: no bar, and words beside the table
            bars = axes.bar(range(len(layers)), shares, bottom=bottom, color=_PART_COLORS[part], label=f"over {part}")
            for i, bar in enumerate(bars):
                bar.set_gid(f"{slug(network.label)}-{part}-{i}")
                titles[f"{slug(network.label)}-{part}-{i}"] = f"{layers[i].name}: {shares[i]:.0%} over {part}"
            bottom += shares
        _name_layers(axes, layers)
        axes.set_ylim(0, 1)
        add_legend(figure, axes)
        return _plot(f"shares-{slug(network.label)}", "Where the activations vary", figure, titles)


def _lines_by_way(
    network: NetworkFigures, layers: Sequence[LayerFigures], name: str, y: str, value: Callable[[Survival], float]
) -> Plot:
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("layer", y)
        titles = {}
        places = np.arange(len(layers), dtype=float)
        for way in TITLES:
            if not any(way in layer.ways for layer in layers):
                continue
            values = [value(layer.ways[way]) if way in layer.ways else math.nan for layer in layers]
            gid = f"{slug(network.label)}-{name}-{way}"
            titles[gid] = TITLES[way]
            axes.plot(places, values, color=COLORS[way], label=TITLES[way], gid=gid, **_LINE)
        _name_layers(axes, layers)
        low = min((v for line in axes.get_lines() for v in np.asarray(line.get_ydata(), float) if v == v), default=0)
        axes.set_ylim(max(-0.6, min(0.0, low) - 0.03), 1.03)
        add_legend(figure, axes)
        return _plot(f"{name}-{slug(network.label)}", y[0].upper() + y[1:], figure, titles)


def _name_layers(axes: Axes, layers: Sequence[LayerFigures]) -> None:
    """Layers by name below the axis; of many every second, or fewer."""
    step = -(-len(layers) // _NAMED)
    places = range(0, len(layers), step)
    axes.set_xticks(places, [layers[i].name for i in places], rotation=90, fontsize=6.5)
    axes.set_xlabel("")


def _bars(
    network: NetworkFigures, name: str, title: str, groups: Sequence[str], series: dict[str, tuple[str, list[float]]]
) -> Plot:
    """Groups of bars; ``series`` by label: color and a value for each group."""
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("", "explained variance", 3.4)
        width = 0.8 / len(series)
        titles = {}
        for place, (label, (color, values)) in enumerate(series.items()):
            x = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
            heights = [value if math.isfinite(value) else 0.0 for value in values]
            for i, bar in enumerate(axes.bar(x, heights, width * 0.92, color=color, label=label)):
                gid = f"{slug(network.label)}-{name}-{place}-{i}"
                bar.set_gid(gid)
                titles[gid] = f"{groups[i]}, {label}: {number(values[i])}"
        axes.set_xticks(range(len(groups)), groups)
        axes.axhline(0, color="#555555", linewidth=0.7)
        axes.set_ylim(bottom=max(-1.0, min(0.0, axes.get_ylim()[0])), top=1.0)
        add_legend(figure, axes)
        return _plot(f"{name}-{slug(network.label)}", title, figure, titles)


def _regions(network: NetworkFigures) -> Plot:
    found = summarize(network)
    series = {
        TITLES[way]: (COLORS[way], [survival.regions[region] for region in REGIONS])
        for way, survival in found.ways.items()
    }
    return _bars(network, "regions", "What survives at edges, in texture and in flat parts", REGIONS, series)


def _colours(network: NetworkFigures) -> Plot:
    found = summarize(network)
    ways = {way: survival.colours for way, survival in found.ways.items()}
    series = {TITLES[way]: (COLORS[way], [colours[plane] for plane in _PLANES]) for way, colours in ways.items()}
    real = {"the activations themselves": ("#bbbbbb", [found.real_colours[plane] for plane in _PLANES])}
    title = "The image's channels, and its colour differences, from a layer's bits"
    return _bars(network, "colours", title, tuple(_PLANES), real | series)


def _ranking(network: NetworkFigures) -> Plot:
    layers = ranking(network)[:_RANKED]
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure(
            "output error, share of the result's standard deviation", "", 0.9 + 0.33 * len(layers)
        )
        titles = {}
        for offset, way in ((-0.2, "zero"), (0.2, "local3")):
            errors = [layer.effects[way].error for layer in layers]
            places = np.arange(len(layers)) + offset
            for i, bar in enumerate(axes.barh(places, errors, 0.38, color=COLORS[way], label=TITLES[way])):
                gid = f"{slug(network.label)}-ranking-{way}-{i}"
                bar.set_gid(gid)
                titles[gid] = f"{layers[i].name}, {TITLES[way]}: {errors[i]:.3f}"
        axes.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8)
        axes.invert_yaxis()
        add_legend(figure, axes)
        title = f"The {len(layers)} layers whose bits cost the result most"
        return _plot(f"ranking-{slug(network.label)}", title, figure, titles)


def _weights(network: NetworkFigures, layers: Sequence[LayerFigures]) -> Plot:
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("layer", "share of the weights", 3.2)
        titles = {}
        places = np.arange(len(layers), dtype=float)
        for word, color in (("undecided", "#d1495b"), ("positive", "#00798c")):
            values = [math.nan if layer.weights is None else getattr(layer.weights, word) for layer in layers]
            label = {"undecided": "near 0, about to change sign", "positive": "positive"}[word]
            gid = f"{slug(network.label)}-weights-{word}"
            titles[gid] = label
            axes.plot(places, values, color=color, label=label, gid=gid, **_LINE)
        _name_layers(axes, layers)
        axes.set_ylim(bottom=0)
        add_legend(figure, axes)
        title = "Latent weights" if network.is_binary else "Weights, which would become latent"
        return _plot(f"weights-{slug(network.label)}", title, figure, titles)


def _flips(network: NetworkFigures) -> Plot:
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("iteration", "flip ratio since the checkpoint before", 3.2)
        places = [float(flip.last) for flip in network.flips]
        totals = [flip.total for flip in network.flips]
        gid = f"{slug(network.label)}-flips"
        titles = {gid: f"{totals[-1]:.4f} between {network.flips[-1].first} and {network.flips[-1].last}"}
        axes.plot(places, totals, color="#00798c", label="mean over layers", gid=gid, **_LINE)
        axes.set_ylim(bottom=0)
        add_legend(figure, axes)
        return _plot(f"flips-{slug(network.label)}", "Weights that change their sign", figure, titles)


def map_sheet(network: NetworkFigures) -> bytes:
    """Feature maps and their bits as one PNG: a row for each layer."""
    ways = list(dict.fromkeys(way for picture in network.pictures for way in picture.bits))
    rows, columns = len(network.pictures), 1 + len(ways)
    with matplotlib.rc_context({**STYLE, "font.size": 7}):
        figure = Figure(figsize=(1.25 * columns, 1.42 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, picture in zip(grid, network.pictures, strict=True):
            images = [picture.real, *(picture.bits.get(way) for way in ways)]
            for axes, image in zip(row, images, strict=True):
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set(color="#bbbbbb", linewidth=0.6, visible=image is not None)
                if image is not None:
                    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            row[0].set_title(f"{picture.layer}, channel {picture.channel}", loc="left")
        for axes, way in zip(grid[0][1:], ways, strict=True):
            axes.set_title("\n".join(_wrapped(TITLES[way])))
        return _png(figure)


def _wrapped(text: str, width: int = 18) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def _plot(name: str, title: str, figure: Figure, titles: dict[str, str]) -> Plot:
    svg = to_svg(figure, titles)
    figure.set_layout_engine("none")  # it is laid out
    return Plot(name, title, svg, _png(figure))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
