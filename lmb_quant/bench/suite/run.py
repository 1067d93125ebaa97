# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: what ``lmb-quant bench run`` does."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from lmb_quant.integrations.basicsr.option_check import check_network
from lmb_quant.table import render

from .cell_process import Outcome
from .cells import Cell, make_cells, select, trainings
from .code import training_code
from .data import find_data
from .estimate import estimate
from .latency import latency_key, measure
from .local import Scheduler, default_jobs, run_locally
from .options import training_options
from .progress import RunProgress, steps_done
from .schema import Suite
from .store import Store


@dataclass(frozen=True)
class Job:
    """A suite with its images found, its cells listed, and the place of its results."""

    suite: Suite
    cells: tuple[Cell, ...]
    selected: tuple[Cell, ...]
    store: Store

    @property
    def distinct(self) -> list[Cell]:
        """The selected cells; of those that are the same under several names, the first."""
        return list({cell.key: cell for cell in reversed(self.selected)}.values())[::-1]

    @property
    def missing(self) -> list[Cell]:
        """The distinct cells that are not finished; last those that share their training with another one."""
        cells = [cell for cell in self.distinct if self.store.result(cell) is None]
        leaders = trainings(cells)
        return sorted(cells, key=lambda cell: leaders[cell.training_key] is not cell)


def prepare(suite: str | Path, *, data: Path | None, output: Path, only: str | None = None) -> Job:
    """Reads a suite, finds its images and lists its cells.

    Args:
        suite: Name of a shipped suite, or path.
        data: Folder with ``train/<set>`` and ``test/<set>``; None where the suite brings its own.
        output: Folder of results.
        only: Glob for the names of cells, or for parts of them.

    Raises:
        LMBError: If the suite, its images, a method or the glob is wrong.
    """
    loaded = Suite.load(suite)
    store = Store(output)
    images = find_data(loaded, data, store.root)
    cells = make_cells(loaded, images)
    job = Job(loaded, tuple(cells), tuple(select(cells, only)), store)
    store.write_suite(
        loaded.name,
        {
            "suite": loaded.model_dump(mode="json", by_alias=True),
            "data": images.model_dump(mode="json"),
            "cells": [
                {
                    **{name: getattr(cell, name) for name in ("network", "method", "upscale", "seed", "key")},
                    "latency_key": None if cell.network_g is None else latency_key(cell),
                }
                for cell in cells
            ],
        },
    )
    return job


def show(job: Job, console: Console, *, jobs: int | None = None) -> None:
    """Lists the cells, finished and missing, with an estimate of the time: ``--dry-run``."""
    estimates = estimate(job.missing, job.cells, job.store)
    rows = []
    for cell in job.selected:
        expected = estimates.get(cell.key)
        time, source = ("", "") if expected is None else (_duration(expected.seconds), expected.source)
        rows.append((cell.name, cell.key, _state(cell, job.store), time, source))
    title = f"suite {job.suite.name} in {job.store.root}"
    _say(console, render(title, ("cell", "key", "state", "training left", "time from"), rows, right=(3,)))
    jobs = jobs or default_jobs(job.suite.threads)
    seconds = sum(e.seconds for e in estimates.values())
    _say(
        console,
        f"{len(job.distinct) - len(job.missing)} of {len(job.distinct)} cells are finished. Training left: "
        f"{_duration(seconds)} in one process, about {_duration(seconds / jobs)} with {jobs} at a time; starting "
        "and evaluating come on top.",
    )
    _warn_of_other_code(job, console)


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
    """
    _check_options(job)
    _warn_of_other_code(job, console)
    scheduler = scheduler or run_locally(jobs or default_jobs(job.suite.threads))
    missing, failed = job.missing, 0
    with RunProgress(missing, len(job.distinct), job.store, console) as progress:
        for cell, outcome in scheduler(missing, job.store, progress.tick):
            failed += outcome is Outcome.FAILED
            progress.ended(cell, _told(cell, outcome, job.store))
    _say(console, scores_table(job.selected, job.store))
    if failed:
        _say(console, f"{failed} cells failed; run again to try them again.")
    if job.suite.latency if latency is None else latency:
        measure(job.cells, job.selected, job.store, lambda text: _say(console, text))
    return 1 if failed else 0


def scores_table(cells: Sequence[Cell], store: Store) -> str:
    """A table of PSNR by method and test set, mean and standard deviation over seeds, of the finished cells."""
    groups: dict[tuple[str, str, int], list[dict[str, dict[str, float]]]] = {}
    for cell in cells:
        result = store.result(cell)
        if result is not None and "scores" in result:
            groups.setdefault((cell.network, cell.method, cell.upscale), []).append(result["scores"])
    sets = [images.name for images in cells[0].test]
    rows = [
        (network, method, f"x{upscale}", str(len(runs)), *(_mean([run[name]["psnr"] for run in runs]) for name in sets))
        for (network, method, upscale), runs in groups.items()
    ]
    columns = ("network", "method", "upscale", "seeds", *(f"{name}, dB" for name in sets))
    return render("PSNR on Y, mean +- standard deviation over seeds", columns, rows, right=range(3, 4 + len(sets)))


def _mean(values: Sequence[float]) -> str:
    spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _told(cell: Cell, outcome: Outcome, store: Store) -> str:
    result, failure = store.result(cell), store.failure(cell)
    if result is not None and "unsupported" in result:
        return f"unsupported: {result['unsupported']}"
    if outcome is Outcome.DONE and result is not None:
        return ", ".join(f"{name} {score['psnr']:.2f} dB" for name, score in result["scores"].items())
    if outcome is Outcome.FAILED and failure is not None:
        return f"failed ({failure['exit']}): {failure['error']} See {failure['log']}"
    return outcome.value


def _state(cell: Cell, store: Store) -> str:
    if store.result(cell) is not None:
        return "finished"
    if store.is_locked(cell):
        return "in work"
    if store.failure(cell) is not None:
        return "failed"
    done = steps_done(cell, store)
    return f"begun, {done:,} of {cell.steps:,}" if done else "missing"


def _check_options(job: Job) -> None:
    """Finds at the start what would make every cell of a network fail."""
    for cell in job.missing:
        if cell.network_g is not None:
            check_network(training_options(cell, num_gpu=0), f"{job.suite.place}: {cell.network}")


def _warn_of_other_code(job: Job, console: Console) -> None:
    results = [job.store.result(cell) for cell in job.distinct]
    other = [r for r in results if r is not None and r["versions"]["training code"] != training_code()]
    if other:
        _say(
            console,
            f"{len(other)} finished cells were trained by other code than today's (hash of the code that all "
            "training shares). They count as finished; --output with another folder trains them anew.",
        )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)
