# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: what ``lmb-quant bench run`` does."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from lmb_quant.bench.suite.measure.evaluate import check_images
from lmb_quant.bench.suite.measure.latency import measure
from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.report.columns import shown_columns
from lmb_quant.bench.suite.report.rows import find
from lmb_quant.bench.suite.store import Store
from lmb_quant.integrations.basicsr.option_check import check_options
from lmb_quant.table import render

from .job import Job, say
from .options import training_options
from .process import Outcome
from .progress import RunProgress
from .schedule import Scheduler, default_jobs, run_locally

_SHOWN = ("network", "method", "upscale", "seeds", "PSNR, dB")


def run(
    job: Job,
    console: Console,
    *,
    jobs: int | None = None,
    scheduler: Scheduler | None = None,
    latency: bool | None = None,
) -> int:
    """Does the missing cells, prints a table of what is there, and measures what latency was not measured here.

    Args:
        job: What :func:`prepare` returned.
        console: Where progress goes.
        jobs: Cells at a time; by default one a GPU, or one a core.
        scheduler: What spreads the cells; by default processes of this machine.
        latency: Whether to measure latency, on this machine; by default what the suite says.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        LMBError: If a network, the settings of the training or a test image cannot be used.
    """
    missing, failed = job.missing, 0
    _check(missing, job.suite.place)
    job.record()
    say(console, job.remark())
    scheduler = scheduler or run_locally(jobs or default_jobs(job.suite.threads))
    with RunProgress(missing, len(job.distinct), job.store, console) as progress:
        for cell, outcome in scheduler(missing, job.store, progress.tick):
            failed += outcome is Outcome.FAILED
            progress.ended(cell, _told(cell, outcome, job.store))
    if any("scores" in (job.store.result(cell) or {}) for cell in job.cells):
        say(console, _scores(job))
    if failed:
        say(console, f"{failed} cells failed; run again to try them again.")
    if job.suite.latency if latency is None else latency:
        measure(job.cells, job.selected, job.store, lambda text: say(console, text))
    return 1 if failed else 0


def _scores(job: Job) -> str:
    """The report's table, its scores only."""
    findings = find(job.store.root, job.suite.name)
    columns = [column for column in shown_columns(findings) if column.title.endswith(_SHOWN)]
    rows = [[column.text(row) for column in columns] for row in findings.rows]
    title = "PSNR on Y, mean and standard deviation over seeds"
    return render(title, [column.title for column in columns], rows, right=range(1, len(columns)))


def _told(cell: Cell, outcome: Outcome, store: Store) -> str:
    result, failure = store.result(cell), store.failure(cell)
    if result is not None and "unsupported" in result:
        return f"unsupported: {result['unsupported']}"
    if outcome is Outcome.DONE and result is not None:
        return ", ".join(f"{name} {score['psnr']:.2f} dB" for name, score in result["scores"].items())
    if outcome is Outcome.FAILED and failure is not None:
        return f"failed ({failure['exit']}): {failure['error']} See {failure['log']}"
    return outcome.value


def _check(cells: Sequence[Cell], place: str) -> None:
    """Finds at the start what would make every cell of a network, or on a test set, fail."""
    networks: set[tuple[str, int]] = set()
    for cell in cells:
        if cell.network_g is None or (cell.network, cell.upscale) in networks:
            continue
        networks.add((cell.network, cell.upscale))
        opt = training_options(cell, num_gpu=0)
        if "recipe" in cell.network_g:  # it, and hooks, are one method's
            opt["network_g"] = {**cell.network_g, "recipe": None}
        opt["train"]["hooks"] = []
        check_options(opt, f"{place}: {cell.network}", is_train=True, with_images=False)
    sets = dict.fromkeys((each.name, each.folder, cell.upscale) for cell in cells for each in cell.test)
    for name, folder, upscale in sets:
        check_images(folder, upscale, f"{place}: data.test: {name}")
