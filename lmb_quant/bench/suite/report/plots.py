# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG text; every point says on hovering what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import colormaps

from lmb_quant.bench.pareto import pareto_front
from lmb_quant.page import STYLE, add_legend, label_point, log_axis, make_figure, to_svg

from .answers import COSTS, Cost
from .rows import Findings, Row

_MARKERS = "osD^vP*X<>pd+x1"
_COLORS = (("tab10", 10), ("tab20b", 20), ("tab20c", 20))


@dataclass(frozen=True)
class Plot:
    """A plot and what it shows."""

    title: str
    svg: str


def make_plots(findings: Findings) -> list[Plot]:
    """PSNR against OPs, latency and bytes with the Pareto front, and the training curves, for each SR factor."""
    plots = []
    first = findings.sets[0]
    for upscale in findings.upscales:
        rows = [row for row in findings.rows if row.upscale == upscale and row.is_network]
        for cost in COSTS:
            costed = [row for row in rows if cost.of(row) is not None]
            if costed:
                title = f"x{upscale}: PSNR on {first} against {cost.name}"
                plots.append(Plot(title, _scatter(findings, costed, cost, f"{cost.name}-x{upscale}")))
        curves = [row for row in rows if len(row.curve) > 1]
        if curves:
            validation = findings.manifest["suite"]["data"]["validate"] or first
            plots.append(Plot(f"x{upscale}: training curves", _curves(findings, curves, validation, upscale)))
    return plots


def _style(findings: Findings, row: Row) -> dict[str, Any]:
    methods = sorted({r.method for r in findings.rows if r.is_network and not r.is_float})
    colors = [colormaps[name](i) for name, count in _COLORS for i in range(count)]
    color = "#222222" if row.is_float else colors[methods.index(row.method) % len(colors)]
    return {"color": color, "marker": _MARKERS[findings.networks.index(row.network) % len(_MARKERS)]}


def _scatter(findings: Findings, rows: Sequence[Row], cost: Cost, prefix: str) -> str:
    first = findings.sets[0]
    points = [(cost.of(row) or 0.0, row.score(first, "psnr").mean) for row in rows]
    titles = {}
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure(f"{cost.name}, {cost.unit}", f"PSNR on {first}, dB")
        front = pareto_front(points)
        axes.plot(*zip(*(points[i] for i in front), strict=True), color="#999999", linewidth=1, zorder=1)
        for i, (row, (x, y)) in enumerate(zip(rows, points, strict=True)):
            gid = f"{prefix}-{i}"
            spread = row.score(first, "psnr")
            axes.errorbar(x, y, yerr=spread.deviation, color=_style(findings, row)["color"], linewidth=1, zorder=2)
            axes.scatter(x, y, s=40, gid=gid, label=findings.label(row), zorder=3, **_style(findings, row))
            titles[gid] = f"{findings.label(row)}: {spread.text(2)} dB, {x:.3g} {cost.unit}"
            if i in front:
                label_point(axes, findings.label(row), x, y)
        log_axis(axes, [x for x, _ in points])
        add_legend(figure, axes)
        return to_svg(figure, titles)


def _curves(findings: Findings, rows: Sequence[Row], validation: str, upscale: int) -> str:
    titles = {}
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure("training steps", f"PSNR on {validation}, dB")
        for i, row in enumerate(rows):
            gid = f"curve-x{upscale}-{i}"
            steps, values = zip(*row.curve, strict=True)
            style = {**_style(findings, row), "markersize": 4, "linewidth": 1.3}
            axes.plot(steps, values, gid=gid, label=findings.label(row), **style)
            titles[gid] = f"{findings.label(row)}: {values[-1]:.2f} dB"
        add_legend(figure, axes)
        return to_svg(figure, titles)
