# SPDX-License-Identifier: Apache-2.0
"""``lmb-quant bench run tasks``: trains the cells that are not finished, and writes the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lmb_quant.bench.suite.plan.cells import matches
from lmb_quant.errors import LMBError
from lmb_quant.files import expanded, make_folder
from lmb_quant.table import render

from .data import Halves, contents, read_halves
from .report import REPORTS, table, write_tasks_report
from .settings import CELLS, Cell, Settings
from .store import Store
from .training import baseline, build, evaluate, train

"""What the command calls it, beside the suites."""

_DEFAULT = Settings()


def show_tasks(
    data: Path | None, output: Path, console: Console, *, only: str | None = None, settings: Settings = _DEFAULT
) -> None:
    """Lists the cells, and which are finished; trains nothing.

    Raises:
        LMBError: As :func:`run_tasks`.
    """
    photographs, store, cells = _prepared(data, output, only, settings, console)
    title = f"{len(photographs)} photographs; {settings.steps} steps of {settings.batch} patches for each cell"
    rows = [(cell.name, "finished" if store.result(cell) else "to train") for cell in cells]
    _show(console, render(title, ("cell", "state"), rows))


def run_tasks(
    data: Path | None, output: Path, console: Console, *, only: str | None = None, settings: Settings = _DEFAULT
) -> int:
    """Trains and tests the cells that are not finished, one after another, and writes the report.

    Args:
        data: Folder of photographs.
        output: Folder of results; finished cells in it are kept, by their settings and images.
        console: Shows the progress and the table.
        only: Glob for the names of cells, or for parts of them: ``sr/*``, ``lmb*``.
        settings: The settings.

    Returns:
        0.

    Raises:
        LMBError: If no folder of photographs is given, one cannot be used, ``only`` matches no cell, the folder of
            results cannot be made, or a training fails; finished cells stay.
    """
    photographs, store, cells = _prepared(data, output, only, settings, console)
    for folder in (store.folder, store.folder.parent / REPORTS):
        make_folder(folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=settings.steps)
        for cell in cells:
            if store.result(cell) is None:
                progress.reset(task, total=settings.steps, description=cell.name)
                _do(cell, photographs, store, settings, lambda step: progress.update(task, completed=step))
        results = _results(store)
        progress.reset(task, description="analysis")

        def tell(text: str, done: int, total: int) -> None:
            progress.update(task, description=escape(text), completed=done, total=total)

        written = write_tasks_report(store.folder.parent, results, photographs, store, settings, tell)
    found = table(results)
    _show(console, render(found.title, found.columns, found.rows, right=range(1, len(found.columns))))
    for path in written[:2]:
        _show(console, str(path))
    return 0


def _show(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _prepared(
    data: Path | None, output: Path, only: str | None, settings: Settings, console: Console
) -> tuple[list[Halves], Store, list[Cell]]:
    if data is None:
        raise LMBError("--data: it is missing. Give a folder of photographs.")
    cells = [cell for cell in CELLS if only is None or matches(cell.name, only)]
    if not cells:
        raise LMBError(f"--only: {only!r} matches no cell. Cells: {', '.join(cell.name for cell in CELLS)}.")
    photographs, small = read_halves(data, settings)
    if small:
        console.print(f"{small} photographs are too small and left out")
    return photographs, Store(expanded(output).resolve(), settings, contents(photographs)), cells


def _do(cell: Cell, photographs: Sequence[Halves], store: Store, settings: Settings, tell: Any) -> None:
    network = build(cell, settings, len(photographs))
    seconds = train(network, cell, photographs, settings, tell)
    score = evaluate(network, cell, photographs, settings)
    result = {"score": score, "baseline": baseline(cell.task, photographs, settings), "seconds": seconds}
    store.finish(cell, network, result)


def _results(store: Store) -> dict[str, dict[str, Any]]:
    found = {cell.name: store.result(cell) for cell in CELLS}
    return {name: result for name, result in found.items() if result is not None}
