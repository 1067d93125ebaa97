# SPDX-License-Identifier: Apache-2.0
"""Schedulers: what spreads cells over places that work. All share one loop; this machine's is here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.store import Store
from lmb_quant.machine import cores

from .process import Outcome, run_cell

Ended = tuple[Cell, Outcome]
Scheduler = Callable[[Sequence[Cell], Store, Callable[[], None]], Iterator[Ended]]
"""Does cells in any order, yields each as it ends, and calls the last argument a few times a second."""

RETRY = 2.0
"""Seconds after which a cell that another process has is looked at again."""


def spread(
    cells: Sequence[Cell],
    submit: Callable[[Cell], Future[Any]],
    tick: Callable[[], None],
    outcome: Callable[[Cell, Future[Any]], Outcome] = lambda _, future: future.result(),
) -> Iterator[Ended]:
    """The loop of every scheduler: submits cells, yields each as it ends, submits busy ones again a little later.

    Args:
        cells: The cells.
        submit: Begins a cell, or puts it in a queue.
        tick: As a scheduler's.
        outcome: Reads what a future that is done says of its cell.
    """
    running = {submit(cell): cell for cell in cells}
    busy: deque[tuple[float, Cell]] = deque()
    while running or busy:
        while busy and busy[0][0] <= time.monotonic():
            cell = busy.popleft()[1]
            running[submit(cell)] = cell
        tick()
        if not running:
            time.sleep(0.2)
        for future in wait(running, timeout=0.3, return_when=FIRST_COMPLETED).done:
            cell = running.pop(future)
            ended = outcome(cell, future)
            if ended is Outcome.BUSY:
                busy.append((time.monotonic() + RETRY, cell))
            else:
                yield cell, ended


def default_jobs(threads: int) -> int:
    """Cells at a time: one a GPU, or as many as the cores have room for."""
    return torch.cuda.device_count() or max(1, cores() // threads)


def run_locally(jobs: int) -> Scheduler:
    """The scheduler for this machine; each of its ``jobs`` places has one GPU, in turn, where there are any."""

    def run(cells: Sequence[Cell], store: Store, tick: Callable[[], None]) -> Iterator[Ended]:
        places, stop = SimpleQueue[int](), Event()
        for place in range(jobs):
            places.put(place)

        def do(cell: Cell) -> Outcome:
            if store.result(cell) is not None:  # another runner finished it
                return Outcome.DONE
            if store.is_locked(cell):  # known without a process that would find it out
                return Outcome.BUSY
            place = places.get()
            try:
                return run_cell(cell, store, environment=_environment(place), stop=stop)
            finally:
                places.put(place)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                yield from spread(cells, lambda cell: pool.submit(do, cell), tick)
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    return run


def _environment(place: int) -> dict[str, str]:
    gpus = torch.cuda.device_count()
    return {"CUDA_VISIBLE_DEVICES": str(place % gpus)} if gpus > 1 else {}
