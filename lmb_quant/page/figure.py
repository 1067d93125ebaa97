# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures of one look, and as SVG text for a page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
