# SPDX-License-Identifier: Apache-2.0
"""The scheduler of a Ray cluster: its own, with its own retries when a node is lost."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.store import Store
from lmb_quant.errors import LMBError, reason

from .process import Outcome, run_cell
from .schedule import Ended, Scheduler, spread


def run_on_ray(address: str) -> Scheduler:
    """The scheduler for a Ray cluster; a cell takes a GPU where the cluster has any, else its threads' cores.

    The folders of images and of results must have the same paths on every machine. When a node is lost, Ray gives its
    cells to others, which continue from the last checkpoints.

    Args:
        address: Of the cluster's head, ``auto`` for the one that runs on this machine.

    Raises:
        LMBError: If Ray is not installed, or there is no cluster at the address.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise LMBError("--ray: Ray is not installed. To use it: pip install 'lmb-quant[ray]'") from None

    def run(cells: Sequence[Cell], store: Store, tick: Callable[[], None]) -> Iterator[Ended]:
        _connect(ray, address)
        gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
        task = ray.remote(max_retries=-1)(_do)  # as often as nodes are lost; what a cell itself does wrong is no retry

        references = []

        def submit(cell: Cell) -> Future[Any]:
            references.append(task.options(num_cpus=cell.threads, num_gpus=gpus).remote(cell, store))
            return references[-1].future()

        try:
            yield from spread(cells, submit, tick, lambda cell, done: _outcome(ray, done, cell, store))
        finally:
            for reference in references:
                ray.cancel(reference, force=True)  # harmless for one that has ended
            ray.shutdown()

    return run


def _connect(ray: Any, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "://" not in address:  # Ray itself tries for minutes, then ends the process
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise LMBError(f"--ray: {address!r}: there is no cluster: {reason(error)}") from None


def _do(cell: Cell, store: Store) -> Outcome:
    """What runs on a node."""
    return Outcome.DONE if store.result(cell) is not None else run_cell(cell, store)


def _outcome(ray: Any, done: Future[Any], cell: Cell, store: Store) -> Outcome:
    try:
        return Outcome(done.result())
    except ray.exceptions.RayError as error:
        failure = {
            "cell": cell.name,
            "error": reason(error),
            "exit": "lost by Ray",
            "log": str(store.log(cell)),
            "tail": [],
        }
        store.write_failure(cell, failure)
        return Outcome.FAILED
