# SPDX-License-Identifier: Apache-2.0
"""Lists a suite's cells and estimates the time: what ``lmb-quant bench run --dry-run`` does."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.plan.cells import trainings
from lmb_quant.bench.suite.store import Store
from lmb_quant.integrations.basicsr.hooks.step_times import read_step_times
from lmb_quant.table import render

from .job import Job, say
from .progress import steps_done
from .schedule import default_jobs


def show(job: Job, console: Console, *, jobs: int | None = None) -> None:
    """Lists the cells, and the time that their training takes as far as steps were measured.

    Args:
        job: What :func:`~.job.prepare` returned.
        console: Where it goes.
        jobs: Cells at a time, as for a run.
    """
    expected = {cell.key: found for cell, found in _expected(job)}
    rows = []
    for cell in job.selected:
        seconds, source = expected.get(cell.key, (None, ""))
        rows.append((cell.name, cell.key, _state(cell, job.store), _duration(seconds), source))
    jobs = jobs or default_jobs(job.suite.threads)
    known = [seconds for seconds, _ in expected.values() if seconds is not None]
    columns = ("cell", "key", "state", "training left", "time from")
    say(console, render(f"suite {job.suite.name} in {job.store.root}", columns, rows, right=(3,)))
    say(
        console,
        f"{len(job.distinct) - len(expected)} of {len(job.distinct)} cells are finished. Training left: "
        f"{_duration(sum(known))} in one process, about {_duration(sum(known) / jobs)} with {jobs} at a time; starting "
        "and evaluating come on top.",
    )
    if len(known) < len(expected):
        say(
            console,
            f"Not counted: {len(expected) - len(known)} cells of networks of which no step was measured yet. Start the "
            "run, stop it by Ctrl-C after some seconds and ask again; it goes on from its last checkpoint.",
        )
    say(console, job.remark())


def _expected(job: Job) -> Iterator[tuple[Cell, tuple[float | None, str]]]:
    """For each missing cell the seconds that its training will take, None if unknown, and where they are from.

    That is steps that finished and begun cells measured: of the same network and method, or else of the same network
    under other methods.
    """
    measured: dict[tuple[object, ...], list[float]] = {}
    for cell in job.cells:
        result = job.store.result(cell) or {}
        step = result.get("step_seconds") or read_step_times(job.store.experiment(cell)).get("median")
        if step:
            for group in (_network(cell), (*_network(cell), cell.method)):
                measured.setdefault(group, []).append(step)
    leaders = trainings(job.missing)
    for cell in job.missing:
        leader, network = leaders[cell.training_key], _network(cell)
        steps = measured.get((*network, cell.method), measured.get(network))
        if not cell.steps:
            yield cell, (0.0, "no training")
        elif leader is not cell:
            yield cell, (0.0, f"trained with {leader.method}")
        elif steps is None:
            yield cell, (None, "no step measured yet")
        else:
            source = "measured" if (*network, cell.method) in measured else "measured on other methods"
            yield cell, ((cell.steps - steps_done(cell, job.store)) * statistics.mean(steps), source)


def _network(cell: Cell) -> tuple[object, ...]:
    return cell.network, cell.upscale, cell.training.batch, cell.training.patch


def _state(cell: Cell, store: Store) -> str:
    if store.result(cell) is not None:
        return "finished"
    if store.is_locked(cell):
        return "in work"
    if store.failure(cell) is not None:
        return "failed"
    done = steps_done(cell, store)
    return f"begun, {done:,} of {cell.steps:,}" if done else "missing"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
