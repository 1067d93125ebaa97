# SPDX-License-Identifier: Apache-2.0
"""What each task loses by each method, and the analysis of both float networks on the same photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmb_quant.analysis import Analysis, Photograph, Source, analyze
from lmb_quant.analysis.measure import Tell
from lmb_quant.analysis.report import write_report
from lmb_quant.analysis.report.tables import Table
from lmb_quant.files import write_atomically

from .data import Halves
from .settings import METHODS, TASKS, Cell, Settings
from .store import Store
from .training import DEVIATION, MEAN, build

REPORTS = "reports"
"""Name of the folder of reports, in that of results."""

_SHOWN = 16
_WORDS = {
    "float": "float",
    "sign": "sign: one threshold for all",
    "lmb-global": "lmb-global: mean of the map",
    "lmb": "lmb: local means",
}
_COLUMNS = ("method", "SR: PSNR Y, dB", "gain lost", "classification: told right", "gain lost", "minutes")


def losses(results: dict[str, dict[str, Any]], task: str) -> dict[str, float]:
    """By method, the share of the float network's gain over no network that is lost; NaN where it has none."""
    full = results.get(f"{task}/float")
    if full is None:
        return {}
    gain = full["score"] - full["baseline"]
    return {
        method: (full["score"] - results[f"{task}/{method}"]["score"]) / gain if gain > 0 else math.nan
        for method in METHODS
        if f"{task}/{method}" in results
    }


def table(results: dict[str, dict[str, Any]]) -> Table:
    """A row for each method that has a result, and one for no network."""
    rows = [_row("no network: bicubic, guessing", results, "", {task: {} for task in TASKS})]
    shares = {task: losses(results, task) for task in TASKS}
    rows += [
        _row(_WORDS[method], results, method, shares)
        for method in METHODS
        if any(f"{task}/{method}" in results for task in TASKS)
    ]
    return Table("Two tasks on the same photographs", _COLUMNS, tuple(rows))


def _row(
    label: str, results: dict[str, dict[str, Any]], method: str, shares: dict[str, dict[str, float]]
) -> tuple[str, ...]:
    cells = [label]
    seconds = 0.0
    for task in TASKS:
        found = results.get(f"{task}/{method or 'float'}")
        score = None if found is None else found["score" if method else "baseline"]
        factor, digits, unit = (1, 2, "") if task == "sr" else (100, 1, " %")
        cells.append("" if score is None else f"{factor * score:.{digits}f}{unit}")
        lost = shares[task].get(method, math.nan)
        cells.append(f"{100 * lost:.0f} %" if math.isfinite(lost) and method != "float" else "")
        seconds += found["seconds"] if found and method else 0
    return (*cells, f"{seconds / 60:.1f}" if seconds else "")


def write_tasks_report(
    root: Path,
    results: dict[str, dict[str, Any]],
    photographs: Sequence[Halves],
    store: Store,
    settings: Settings,
    tell: Tell,
) -> list[Path]:
    """Writes ``reports/tasks.html`` with its folder of figures, ``tasks.csv`` in it; earlier ones are replaced.

    The analysis needs both float networks; without them only the table is written.
    """
    folder = root / REPORTS
    found = table(results)
    csv = "\n".join(",".join(f'"{cell}"' for cell in row) for row in (found.columns, *found.rows))
    write_atomically(folder / "tasks.csv", f"{csv}\n".encode())
    written = [folder / "tasks.csv"]
    if all(f"{task}/float" in results for task in TASKS):
        analysis = _analysis(photographs, store, settings, tell)
        page = folder / "tasks.html"
        title = "Super-resolution and classification on the same photographs"
        written += write_report(analysis, page, title=title, extra=[found], force=True)
    return written


def _analysis(photographs: Sequence[Halves], store: Store, settings: Settings, tell: Tell) -> Analysis:
    """Both float networks on the right quarters: of all of them the same square."""
    shown = photographs[:: max(1, len(photographs) // _SHOWN)][:_SHOWN]
    side, upscale = settings.classification.patch, settings.sr.upscale
    squares = []
    for photograph in shown:
        top, left = ((length - side) // 2 for length in photograph.test.shape[:2])
        squares.append(Photograph(photograph.name, photograph.test[top : top + side, left : left + side]))
    networks = {
        task: store.load(cell := Cell(task, "float"), build(cell, settings, len(photographs))) for task in TASKS
    }
    sr = Source("SR: LMBSRResNet, float", networks["sr"], upscale, 3, side // upscale)
    classifier = Source(
        "Classification: ResNet-18, float", networks["classification"], None, 3, side, (MEAN,) * 3, (DEVIATION,) * 3
    )
    return analyze([sr, classifier], squares, tell=tell)
