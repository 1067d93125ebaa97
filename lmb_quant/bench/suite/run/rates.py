# SPDX-License-Identifier: Apache-2.0
"""Finds the learning rate of each network and method of a suite: what ``lmb-quant bench rates`` does."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.plan.cells import rated, trainings
from lmb_quant.bench.suite.plan.schema import Suite
from lmb_quant.errors import LMBError
from lmb_quant.strict_yaml import dump_yaml
from lmb_quant.table import render

from .job import Job, prepare, say
from .run import run

_Tried = dict[tuple[str, str], dict[float, float]]
"""PSNR by rate, of each network and method."""


def search_rates(
    suite: str | Path,
    rates: Sequence[float],
    console: Console,
    *,
    steps: int | None = None,
    data: Path | None,
    output: Path,
    only: str | None = None,
    jobs: int | None = None,
) -> int:
    """Trains each network under each method at each rate, and prints those with the best PSNR on the validation set.

    Each gets the same rates, steps and seed, so the search costs all of them the same. The test sets are not used. The
    cells are kept in the folder of results as those of a run are.

    Args:
        suite: Name of a shipped suite, or path.
        rates: Learning rates to try, at least two, each above 0.
        console: Where the progress, a table of PSNR and the rates as YAML go.
        steps: Of each training; by default a quarter of the suite's.
        data: As for :func:`~.job.prepare`.
        output: As for :func:`~.job.prepare`.
        only: As for :func:`~.job.prepare`.
        jobs: Cells at a time; by default one a GPU, or one a core.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        LMBError: If the rates are not allowed, or as :func:`~.job.prepare`.
    """
    tried = sorted(set(rates))
    if len(tried) < 2 or not 0 < tried[0] <= tried[-1] < float("inf"):
        raise LMBError(f"rates: {list(rates)!r} is not allowed. Allowed: two different ones at least, each above 0.")
    loaded = Suite.load(suite)
    steps = steps or max(1, loaded.training.steps // 4)
    found: _Tried = {}
    failed = 0
    for place, rate in enumerate(tried, start=1):
        say(console, f"Rate {rate:g}, {place} of {len(tried)}:")
        trial = prepare(at_rate(loaded, rate, steps), data=data, output=output, only=only)
        trial = dataclasses.replace(trial, selected=tuple(_one_seed(trial)), is_trial=True)
        failed += run(trial, console, jobs=jobs, latency=False)
        for name, psnr in _scores(trial).items():
            found.setdefault(name, {})[rate] = psnr
    say(console, _told(found, tried, steps, loaded))
    return 1 if failed else 0


def at_rate(suite: Suite, rate: float, steps: int) -> Suite:
    """The suite with one rate for all, fewer steps, and its validation set as the only test set."""
    training, validation = suite.training, suite.data.curve_set
    return suite.model_copy(
        update={
            "name": f"{suite.name}-rate-{rate:g}",
            "networks": {label: network.model_copy(update={"rates": {}}) for label, network in suite.networks.items()},
            "data": suite.data.model_copy(update={"test": [validation], "validation": validation}),
            "training": training.model_copy(
                update={
                    "steps": steps,
                    "optimizer": {**training.optimizer, "lr": rate},
                    "scheduler": {
                        key: _scaled(key, value, steps / training.steps) for key, value in training.scheduler.items()
                    },
                    "validate_every": steps,
                    "checkpoint_every": min(steps, training.checkpoint_every),
                }
            ),
            "rates": {},
            "latency": False,
        }
    )


def _scaled(key: str, value: Any, ratio: float) -> Any:
    """What a scheduler counts in steps, for a training of another length."""
    if key not in ("milestones", "periods", "restarts", "T_max"):
        return value
    if isinstance(value, list):
        return [_scaled(key, each, ratio) for each in value]
    return max(1, round(value * ratio)) if value else value


def best_rates(found: _Tried) -> dict[str, dict[str, float]]:
    """By network and method the rate with the highest PSNR; of equal ones the lowest rate."""
    best: dict[str, dict[str, float]] = {}
    for (network, method), psnr in found.items():
        best.setdefault(network, {})[method] = max(sorted(psnr), key=lambda rate: psnr[rate])
    return best


def _one_seed(trial: Job) -> list[Cell]:
    """The first seed of each training that there is."""
    leaders = trainings(trial.selected)
    first: dict[tuple[object, ...], Cell] = {}
    for cell in trial.selected:
        if cell.network_g is not None and leaders[cell.training_key] is cell:
            first.setdefault((cell.network, cell.method, cell.upscale), cell)
    if not first:
        raise LMBError(f"{trial.suite.place}: nothing that was selected is trained, so there are no rates to find.")
    return list(first.values())


def _scores(trial: Job) -> dict[tuple[str, str], float]:
    """PSNR on the validation set, the mean over SR factors, by network and name of the rate."""
    found: dict[tuple[str, str], list[float]] = {}
    names = rated(trial.suite)
    for cell in trial.selected:
        scores = (trial.store.result(cell) or {}).get("scores", {})
        if cell.validation in scores:
            name = cell.network, names[cell.network, cell.method]
            found.setdefault(name, []).append(scores[cell.validation]["psnr"])
    return {name: statistics.mean(values) for name, values in found.items()}


def _told(found: _Tried, rates: Sequence[float], steps: int, suite: Suite) -> str:
    """The table, the rates as the suite would name them, and which of them lie at an end of what was tried."""
    best = best_rates(found)
    columns = ("network", "method", *(f"{rate:g}" for rate in rates), "best")
    rows = [
        (network, method, *(f"{psnr[rate]:.3f}" if rate in psnr else "" for rate in rates),
         f"{best[network][method]:g}")
        for (network, method), psnr in found.items()
    ]  # fmt: skip
    title = f"PSNR on Y of {suite.data.curve_set} after {steps} steps, dB, by learning rate"
    lines = [render(title, columns, rows, right=range(2, len(columns)))]
    lines.append("For the suite's file:")
    lines.append(dump_yaml({"networks": {network: {"rates": chosen} for network, chosen in best.items()}}).rstrip())
    ends = [
        f"{network}/{method} at {rate:g}"
        for network, chosen in best.items() for method, rate in chosen.items() if rate in (rates[0], rates[-1])
    ]  # fmt: skip
    if ends:
        lines.append(f"At an end of the rates that were tried, so there may be better ones: {', '.join(ends)}.")
    return "\n".join(lines)
