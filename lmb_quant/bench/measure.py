# SPDX-License-Identifier: Apache-2.0
"""Times of competitors that run in turn: what disturbs the machine disturbs all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from lmb_quant.errors import LMBError

_Name = TypeVar("_Name", bound=Hashable)
CPU_TIME, WALL_TIME = "CPU time of the thread", "wall time"


@dataclass(frozen=True)
class Competitor:
    """Something that is timed.

    ``run`` is timed, with ``threads`` CPU threads; ``prepare`` goes before it each time and is not.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = field(default=lambda: None)
    threads: int = 1


@dataclass(frozen=True)
class Seconds:
    """Of the timed runs."""

    median: float
    minimum: float


@dataclass(frozen=True)
class Timing:
    """Seconds of one competitor; ``cpu`` is that of the calling thread, of one thread only."""

    threads: int
    wall: Seconds
    cpu: Seconds | None

    @property
    def shown(self) -> Seconds:
        """CPU time with one thread, which other programs hardly disturb; wall time with several."""
        return self.cpu or self.wall


def clock_of(threads: int) -> str:
    """What :attr:`Timing.shown` is, in words."""
    return CPU_TIME if threads == 1 else WALL_TIME


def time_in_turn(competitors: Mapping[_Name, Competitor], rounds: int, warm_up: int = 1) -> dict[_Name, Timing]:
    """Times competitors in rounds, each once a round.

    Args:
        competitors: By name, in the order of a round.
        rounds: Timed rounds.
        warm_up: Rounds before them, not timed.

    Returns:
        By name; in seconds.
    """
    wall: dict[_Name, list[float]] = {name: [] for name in competitors}
    cpu: dict[_Name, list[float]] = {name: [] for name in competitors}
    for i in range(warm_up + rounds):
        for name, competitor in competitors.items():
            with thread_count(competitor.threads):
                competitor.prepare()
                start, start_cpu = time.perf_counter(), time.thread_time()
                competitor.run()
                seconds_cpu, seconds = time.thread_time() - start_cpu, time.perf_counter() - start
            if i >= warm_up:
                wall[name].append(seconds)
                cpu[name].append(seconds_cpu)
    return {
        name: Timing(c.threads, _seconds(wall[name]), _seconds(cpu[name]) if c.threads == 1 else None)
        for name, c in competitors.items()
    }


def _seconds(values: list[float]) -> Seconds:
    return Seconds(statistics.median(values), min(values))


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """PyTorch and the packed layers with so many CPU threads."""
    before = torch.get_num_threads()
    if threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads != before:
            torch.set_num_threads(before)


def sqnr(expected: Tensor, actual: Tensor) -> float:
    """Signal to quantisation noise, dB; infinite for equal tensors."""
    signal = expected.double()
    noise = float((signal - actual.double()).norm())
    return 20 * math.log10(float(signal.norm()) / noise) if noise else math.inf


def require(what: str, found: float, least: float) -> None:
    """Stops a measurement whose competitors do not compute the same.

    Raises:
        LMBError: If the SQNR is below the least, or not a number.
    """
    if not found >= least:
        raise LMBError(
            f"{what}: its output is wrong, nothing was timed: {found:.1f} dB SQNR against the definition. "
            f"Allowed: {least:.0f} dB or more."
        )
