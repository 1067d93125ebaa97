# SPDX-License-Identifier: Apache-2.0
"""Writes the page, and beside it a folder with the figures as PNG and CSV."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from lmb_quant.analysis.measure import Analysis, NetworkFigures
from lmb_quant.analysis.thresholds import TITLES
from lmb_quant.errors import LMBError
from lmb_quant.files import check_folder, check_new, entries, is_folder, make_folder, write_atomically
from lmb_quant.machine import Machine, in_words
from lmb_quant.page import page_style
from lmb_quant.versions import package_versions

from .plots import Plot, map_sheet, network_plots, shared_plots, slug
from .tables import (
    Table,
    bits_csv,
    flips_csv,
    layer_words,
    layers_csv,
    ranking_table,
    side_by_side,
    survival_table,
)
from .words import paragraph

_PACKAGES = ("lmb-quant", "torch", "numpy", "scipy")
_MEASURE = "Output error: root mean square of the change over the standard deviation of the unchanged result, "
_FITTED = "reads a B + b in place of its activations: B the bits, a and b the best for each channel by least squares"
_FLOAT = f"{_MEASURE}where the layer {_FITTED}; no training follows."
_BINARY = (
    f"{_MEASURE}where a binary layer makes its bits by this threshold in place of its own, and a float layer "
    f"{_FITTED}; no training follows."
)


def check_output(path: Path, *, force: bool) -> Path:
    """Checks, before minutes of measuring, that a report can be written.

    Args:
        path: The page, ``NAME.html``; the folder of figures is ``NAME`` beside it.
        force: Whether existing files are replaced.

    Returns:
        The folder of figures.

    Raises:
        LMBError: If the name does not end in .html, the folder of ``path`` is missing, or something exists.
    """
    if path.suffix.lower() != ".html":
        raise LMBError(f"--output: {str(path)!r} is not allowed. Allowed: a file NAME.html.")
    check_new(path, force=force)
    folder = path.with_suffix("")
    if is_folder(folder):
        check_folder(folder)
        if entries(folder) and not force:
            raise LMBError(f"{folder}: it holds files. Allowed: another name, or --force to replace its files.")
    elif os.path.lexists(folder):
        raise LMBError(f"--output: {str(folder)!r}, where the figures go, is a file. Name another page.")
    return folder


def write_report(
    analysis: Analysis,
    path: Path,
    *,
    title: str = "What one bit costs, layer by layer",
    extra: Sequence[Table] = (),
    advice: str = "",
    force: bool = False,
) -> list[Path]:
    """Writes a report.

    Args:
        analysis: The figures.
        path: The page, ``NAME.html``; figures go to the folder ``NAME`` beside it.
        title: Of the page.
        extra: Tables that come first.
        advice: A recipe to show.
        force: Whether existing files are replaced.

    Returns:
        The files.

    Raises:
        LMBError: As :func:`check_output`, and where a file cannot be written.
    """
    folder = check_output(path, force=force)
    shared = shared_plots(analysis)
    plots = {network.label: network_plots(network) for network in analysis.networks}
    contents: dict[str, bytes] = {
        "layers.csv": layers_csv(analysis).encode(),
        "bits.csv": bits_csv(analysis).encode(),
        "flips.csv": flips_csv(analysis).encode(),
        "found.txt": f"{paragraph(analysis)}\n".encode(),
        **{f"{plot.name}.png": plot.png for plot in [*shared, *(p for each in plots.values() for p in each)]},
        **{f"maps-{slug(n.label)}.png": map_sheet(n) for n in analysis.networks if n.pictures},
    }
    page = _page(analysis, shared, plots, title=title, extra=extra, advice=advice)
    make_folder(folder)
    written = []
    for name, content in contents.items():
        if content:
            write_atomically(folder / name, content, durable=False)
            written.append(folder / name)
    write_atomically(path, page.encode(), durable=False)
    return [path, *written]


def _page(
    analysis: Analysis,
    shared: list[Plot],
    plots: dict[str, list[Plot]],
    *,
    title: str,
    extra: Sequence[Table],
    advice: str,
) -> str:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    source = files(__package__)
    own_style = source.joinpath("page.css").read_text(encoding="utf-8")
    context: dict[str, Any] = {
        "title": title,
        "found": paragraph(analysis),
        "extra": extra,
        "photographs": analysis.photographs,
        "overview": side_by_side(analysis),
        "shared": shared,
        "networks": [_network(network, plots[network.label]) for network in analysis.networks],
        "advice": advice,
        "environment": [*package_versions(_PACKAGES).items(), *in_words(asdict(Machine())).items()],
        "style": Markup(page_style() + own_style),
    }
    return environment.from_string(source.joinpath("page.html.j2").read_text(encoding="utf-8")).render(context)


def _network(network: NetworkFigures, plots: list[Plot]) -> dict[str, Any]:
    return {
        "label": network.label,
        "upscale": network.upscale,
        "input_size": network.input_size,
        "notes": network.notes,
        "pictures": [
            {
                "layer": picture.layer,
                "channel": picture.channel,
                "images": [
                    ("real values", _data_uri(picture.real)),
                    *((TITLES[way], _data_uri(bits)) for way, bits in picture.bits.items()),
                ],
            }
            for picture in network.pictures
        ],
        "survival": survival_table(network),
        "plots": plots,
        "ranking": ranking_table(network),
        "ranking_hint": _BINARY if network.is_binary else _FLOAT,
        "words": layer_words(network),
    }


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
