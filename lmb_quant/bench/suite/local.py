# SPDX-License-Identifier: Apache-2.0
"""The scheduler of one machine: so many cells at a time, each in its own process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import torch

from lmb_quant.machine import cores

from .cell_process import Outcome, run_cell
from .cells import Cell
from .store import Store

Ended = tuple[Cell, Outcome]
Scheduler = Callable[[Sequence[Cell], Store, Callable[[], None]], Iterator[Ended]]
"""Does cells in any order, yields each as it ends, and calls the last argument a few times a second."""

RETRY = 2.0
"""Seconds after which a cell that another process has is looked at again."""


def default_jobs(threads: int) -> int:
    """Cells at a time: one a GPU, or as many as the cores have room for."""
    return torch.cuda.device_count() or max(1, cores() // threads)


def run_locally(jobs: int) -> Scheduler:
    """The scheduler for this machine; each of its ``jobs`` places has one GPU, in turn, where there are any."""

    def run(cells: Sequence[Cell], store: Store, tick: Callable[[], None]) -> Iterator[Ended]:
        waiting, places, stop = deque(cells), deque(range(jobs)), threading.Event()
        elsewhere: deque[tuple[float, Cell]] = deque()
        running: dict[Future[Outcome], tuple[Cell, int]] = {}
        with ThreadPoolExecutor(jobs) as pool:
            try:
                while waiting or running or elsewhere:
                    while elsewhere and elsewhere[0][0] <= time.monotonic():
                        waiting.append(elsewhere.popleft()[1])
                    while waiting and places:
                        cell = waiting.popleft()
                        if store.result(cell) is not None:
                            yield cell, Outcome.DONE
                        elif store.is_locked(cell):
                            elsewhere.append((time.monotonic() + RETRY, cell))
                        else:
                            place = places.popleft()
                            future = pool.submit(run_cell, cell, store, environment=_environment(place), stop=stop)
                            running[future] = cell, place
                    tick()
                    if not running:
                        time.sleep(0.2)
                        continue
                    for future in wait(running, timeout=0.3, return_when=FIRST_COMPLETED).done:
                        cell, place = running.pop(future)
                        places.append(place)
                        if future.result() is Outcome.BUSY:
                            elsewhere.append((time.monotonic() + RETRY, cell))
                        else:
                            yield cell, future.result()
            finally:
                stop.set()

    return run


def _environment(place: int) -> dict[str, str]:
    gpus = torch.cuda.device_count()
    return {"CUDA_VISIBLE_DEVICES": str(place % gpus)} if gpus > 1 else {}
