# SPDX-License-Identifier: Apache-2.0
"""The process that does one cell: ``python -m lmb_quant.bench.suite.run.worker STORE CELL.json``.

It ends when its standard input does, so that it never outlives the runner that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from torch import nn

from lmb_quant.bench.suite.environment import versions
from lmb_quant.bench.suite.measure.evaluate import evaluate
from lmb_quant.bench.suite.measure.figures import count, count_host_form
from lmb_quant.bench.suite.measure.hosts import UnsupportedError
from lmb_quant.bench.suite.measure.trained import cell_form, float_network, trained_network
from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.store import Store
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.checkpoint import last_complete, network_of
from lmb_quant.integrations.basicsr.hooks.step_times import read_step_times
from lmb_quant.integrations.basicsr.images import BGRImage
from lmb_quant.integrations.basicsr.metrics import run_network, upscale_bicubic
from lmb_quant.integrations.basicsr.metrics_log import read_validations
from lmb_quant.integrations.basicsr.train import main as train
from lmb_quant.machine import Machine
from lmb_quant.strict_yaml import dump_yaml

from .options import training_options

DONE, FAILED, BUSY = 0, 1, 3
"""Exit codes; busy: another process works on the cell."""

PATIENCE = 60.0
"""Seconds that a process has for an iteration and a checkpoint once it is to end."""


def do_cell(cell: Cell, store: Store) -> int:
    """Trains, or continues, and evaluates one cell, unless it is finished or another process is at it.

    Returns:
        ``DONE`` or ``BUSY``.

    Raises:
        LMBError: If the cell's options do not work.
    """
    try:
        with store.lock(cell).acquire(timeout=0):
            if store.result(cell) is None:
                store.write_result(cell, _result(cell, store))
                _prune(store.experiment(cell))
            return DONE
    except Timeout:
        return BUSY


def _result(cell: Cell, store: Store) -> dict[str, Any]:
    pictures = store.pictures(cell)
    sets = {images.name: images.folder for images in cell.test}
    if cell.network_g is None:
        trained: dict[str, Any] = {}
        scores = evaluate(lambda image: upscale_bicubic(image, cell.upscale), sets, cell.upscale, pictures)
    else:
        network, trained = _train(cell, store)
        try:
            network, trained["figures"] = _finished(cell, network)
        except UnsupportedError as error:
            return {**_head(cell), "unsupported": str(error), **_tail()}

        def upscaled(image: BGRImage) -> BGRImage:
            return run_network(network, image)

        scores = evaluate(upscaled, sets, cell.upscale, pictures)
    return {**_head(cell), "scores": scores, **trained, **_tail()}


def _head(cell: Cell) -> dict[str, Any]:
    return {"format": 1, "key": cell.key, "cell": cell.model_dump(mode="json")}


def _tail() -> dict[str, Any]:
    return {
        "versions": versions(),
        "machine": asdict(Machine()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _finished(cell: Cell, network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """The network as it is evaluated, and its figures."""
    if cell.host is None:
        return network.cuda() if torch.cuda.is_available() else network, count(network, cell.upscale)
    form = cell_form(cell, network)
    return form.network, count_host_form(form, float_network(cell, network), cell.upscale)


def _train(cell: Cell, store: Store) -> tuple[nn.Module, dict[str, Any]]:
    """Trains in a cell's folder, from its last complete checkpoint if it has one."""
    folder, run = store.work(cell), store.experiment(cell)
    if not store.weights(cell).exists():
        if last_complete(run / "training_states")[0] is None:
            shutil.rmtree(run, ignore_errors=True)  # killed before its first checkpoint
        options = folder / "options.yml"
        num_gpu = int(torch.cuda.is_available())
        options.write_text(dump_yaml(training_options(cell, num_gpu=num_gpu)), encoding="utf-8")
        os.chdir(folder)
        code = train(["-opt", str(options), "--auto_resume"])
        if code > 128:  # a signal; a later run goes on
            raise SystemExit(code)
        if code != 0:
            raise LMBError("the training was refused; the message above says why.")
    times = read_step_times(run)
    return trained_network(cell, store), {
        "curve": read_validations(run),
        "step_seconds": times.get("median"),
        "training_seconds": times["seconds"] * cell.steps if times.get("seconds") else None,
    }


def _prune(run: Path) -> None:
    """Removes all checkpoints but the last, from which a longer list of test sets can be evaluated."""
    last, _ = last_complete(run / "training_states")
    for state in (run / "training_states").glob("*.state"):
        if last is not None and state != last:
            state.unlink()
            network_of(state).unlink(missing_ok=True)


def _end_with_parent() -> None:
    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold while Python ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # a training writes a checkpoint
        time.sleep(PATIENCE)
        os._exit(FAILED)

    threading.Thread(target=wait, daemon=True).start()


def main(argv: Sequence[str]) -> int:
    """Runs the process; its log says what went wrong."""
    _end_with_parent()
    store, path = Store(Path(argv[0])), Path(argv[1])
    cell = Cell.model_validate_json(path.read_text(encoding="utf-8"))
    torch.set_num_threads(cell.threads)
    try:
        return do_cell(cell, store)
    except LMBError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
