# SPDX-License-Identifier: Apache-2.0
"""Writes a report: what ``lmb-quant bench report`` does."""

from __future__ import annotations

import csv
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from lmb_quant.files import make_folder, write_atomically
from lmb_quant.page import page_style
from lmb_quant.strict_yaml import dump_yaml

from .answers import answers
from .columns import make_columns, notes, shown_columns, table
from .pictures import make_crops
from .plots import make_plots
from .rows import Findings, find


def write_report(root: Path, suite: str | None = None) -> list[Path]:
    """Writes ``reports/SUITE.md``, ``.csv`` and ``.html`` into a folder of results; earlier ones are replaced.

    Args:
        root: The folder.
        suite: Name of the suite; by default the one that was run last.

    Returns:
        The three files.

    Raises:
        LMBError: If there is nothing to report, or a file cannot be written.
    """
    findings = find(root, suite)
    folder = findings.store.root / "reports"
    make_folder(folder)
    texts = {".md": to_markdown(findings), ".csv": to_csv(findings), ".html": to_html(findings)}
    paths = []
    for ending, text in texts.items():
        paths.append(folder / f"{findings.name}{ending}")
        write_atomically(paths[-1], text.encode())
    return paths


def to_markdown(findings: Findings) -> str:
    """The table, its notes, the settings, versions and machine."""
    titles, rows = table(findings)
    marks = ["---:" if column.kind == "number" else "---" for column in shown_columns(findings)]
    lines = [f"# {_title(findings)}", "", findings.manifest["suite"]["description"], ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in (titles, marks, *rows)]
    lines += ["", *(f"- {note}" for note in notes(findings))]
    for answer in answers(findings):
        marks = ["---:", *("---" for _ in answer.columns[1:])]
        lines += ["", f"{answer.title}:", ""]
        lines += ["| " + " | ".join(cells) + " |" for cells in (answer.columns, marks, *answer.rows)]
    if findings.unfinished:
        lines += ["", "Not in the table:", "", *(f"- {name}: {why}" for name, why in findings.unfinished)]
    if findings.unsupported:
        lines += ["", "Cannot be run by their host:", "", *(f"- {name}: {why}" for name, why in findings.unsupported)]
    for kind in ("versions", "machine"):
        lines += ["", f"{kind.capitalize()}:", ""]
        lines += [f"- {name}: {' / '.join(values)}" for name, values in findings.environment(kind)]
    return "\n".join([*lines, "", "Settings:", "", "```yaml", settings(findings), "```", ""])


def to_csv(findings: Findings) -> str:
    """Plain values in full precision; scores have their spread beside them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = make_columns(findings)
    spreads = [(name, metric) for name in findings.sets for metric in ("psnr", "ssim")]
    header = [column.title for column in columns]
    writer.writerow([*header, *(f"{name} {metric.upper()} standard deviation" for name, metric in spreads)])
    for row in findings.rows:
        deviations = [row.score(name, metric).deviation for name, metric in spreads]
        writer.writerow([*(column.value(row) for column in columns), *deviations])
    return buffer.getvalue()


def to_html(findings: Findings) -> str:
    """One page: sortable table, plots, crops with a slider, settings, versions, machine. It loads nothing."""
    columns = shown_columns(findings)
    crops = make_crops(findings)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = files(__package__)
    context: dict[str, Any] = {
        "title": _title(findings),
        "description": findings.manifest["suite"]["description"],
        "columns": columns,
        "rows": [
            {"kind": "float" if row.is_float else "", "cells": [(c.value(row), c.text(row), c) for c in columns]}
            for row in findings.rows
        ],
        "notes": notes(findings),
        "plots": [(plot.title, Markup(plot.svg)) for plot in make_plots(findings)],  # our own SVG
        "crops": crops,
        "crops_json": Markup(json.dumps(crops).replace("<", "\\u003c")),
        "answers": answers(findings),
        "unfinished": findings.unfinished,
        "unsupported": findings.unsupported,
        "versions": findings.environment("versions"),
        "machine": findings.environment("machine"),
        "settings": settings(findings),
        "script": Markup(source.joinpath("page.js").read_text(encoding="utf-8")),
        "style": Markup(page_style()),
    }
    return environment.from_string(source.joinpath("page.html.j2").read_text(encoding="utf-8")).render(context)


def settings(findings: Findings) -> str:
    """The suite as YAML, and the images that were found."""
    data = findings.manifest["data"]
    images = {part: {each["name"]: f"{each['images']} images" for each in data[part]} for part in ("train", "test")}
    given = _given({**findings.manifest["suite"], "found": images})
    return dump_yaml(given, width=100).rstrip()


def _given(value: Any) -> Any:
    """Plain data without what is not given."""
    if isinstance(value, dict):
        return {key: _given(inner) for key, inner in value.items() if inner is not None}
    return value


def _title(findings: Findings) -> str:
    return f"lmb-quant bench: {findings.name}"
