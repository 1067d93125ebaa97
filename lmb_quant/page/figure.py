# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures of one look, and as SVG text for a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

STYLE: Any = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "lmb-quant"}
"""For ``matplotlib.rc_context``."""

_SVG = "http://www.w3.org/2000/svg"
_WIDTH, _HEIGHT = 7, 4.3
_LETTERS = 110
"""Letters of the legend that a line of the figure holds."""


def make_figure(x: str, y: str, height: float = _HEIGHT) -> tuple[Figure, Axes]:
    """Makes a figure with one pair of axes.

    Args:
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        height: Inches; the width is 7.
    """
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e5e5e5", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def add_legend(figure: Figure, axes: Axes) -> None:
    """Puts the legend below the axes, in as many columns as fit, and makes the figure taller for it."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, _LETTERS // (8 + max(map(len, labels))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(labels) // columns))


def label_point(axes: Axes, text: str, x: float, y: float, *, below: bool = False) -> None:
    """Names a point of a Pareto front: up and to the left of it there is nothing; aslant, neighbours do not overlap.

    Args:
        axes: The axes.
        text: The name.
        x: Where the point is.
        y: Where the point is.
        below: Down and to the right instead, for a front with another one above it.
    """
    place: Any = {"xytext": (3, -4), "ha": "left", "va": "top"} if below else {"xytext": (-3, 4), "ha": "right"}
    style: Any = {"textcoords": "offset points", "fontsize": 7.5, "rotation": -25, "rotation_mode": "anchor"}
    axes.annotate(text, (x, y), **{"va": "bottom", **place, **style})


def log_axis(axes: Axes, costs: Sequence[float]) -> None:
    """Makes the horizontal axis logarithmic, with plain numbers and room at the left for :func:`label_point`.

    Args:
        axes: The axes.
        costs: What is drawn; those above zero decide the limits.
    """
    axes.set_xscale("log")
    shown = [cost for cost in costs if cost > 0]
    axes.set_xlim(min(shown) / 2.5, max(shown) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def to_svg(figure: Figure, titles: Mapping[str, str]) -> str:
    """The figure as an element for an HTML page.

    Args:
        figure: The figure.
        titles: What a group says on hovering, by the group's id (``gid`` in Matplotlib).
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    for group in root.iter(f"{{{_SVG}}}g"):
        text = titles.get(group.get("id", ""))
        if text is not None:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = text
            group.insert(0, title)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    return ElementTree.tostring(root, encoding="unicode")
