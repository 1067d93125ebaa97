# SPDX-License-Identifier: Apache-2.0
"""run_cell(): one cell in a process of its own. This is what a scheduler calls, on this machine or on another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from enum import Enum
from typing import BinaryIO

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.store import Store
from lmb_quant.files import write_atomically

from . import worker

_TAIL = 15


class Outcome(Enum):
    """How a cell ended: ``BUSY`` if another process has it, ``STOPPED`` if this runner was told to stop."""

    DONE = "done"
    FAILED = "failed"
    BUSY = "busy"
    STOPPED = "stopped"


def run_cell(
    cell: Cell, store: Store, *, environment: Mapping[str, str] | None = None, stop: threading.Event | None = None
) -> Outcome:
    """Does one cell and returns when it has ended; its result or its failure then is in the store.

    Args:
        cell: The cell.
        store: Where results go.
        environment: Variables for the process, beside this process's own, such as ``CUDA_VISIBLE_DEVICES``.
        stop: Set to end the process; a training writes a checkpoint first.
    """
    stop = stop or threading.Event()
    folder = store.work(cell)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell.key}.json"
    write_atomically(path, cell.model_dump_json(indent=1).encode())
    threads = str(cell.threads)
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1", **(environment or {})}
    with store.log(cell).open("ab") as log:  # another runner's process may be writing to it
        begin = log.tell()
        code = _exit_code([sys.executable, "-m", worker.__name__, str(store.root), str(path)], own, log, stop)
    return Outcome.STOPPED if code is None else _outcome(cell, store, code, begin)


def _exit_code(command: list[str], own: Mapping[str, str], log: BinaryIO, stop: threading.Event) -> int | None:
    """Runs a process to its end; None if it was told to stop."""
    with subprocess.Popen(
        command,
        env={**os.environ, **own},
        stdin=subprocess.PIPE,  # its end is what ends the process if this one dies
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the runner
    ) as process:
        while not stop.is_set():
            try:
                return process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=worker.PATIENCE)
        process.kill()
        return None


def _outcome(cell: Cell, store: Store, code: int, begin: int) -> Outcome:
    """``begin`` is where in the log this process began; what stands before is of others."""
    if code == worker.BUSY:
        return Outcome.BUSY
    if store.result(cell) is not None:
        return Outcome.DONE
    lines = store.log(cell).read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    what = errors[0] if errors else lines[-1] if lines else "it printed nothing"
    how = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
    store.write_failure(
        cell, {"cell": cell.name, "error": what, "exit": how, "log": str(store.log(cell)), "tail": lines[-_TAIL:]}
    )
    return Outcome.FAILED
