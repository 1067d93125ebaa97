# SPDX-License-Identifier: Apache-2.0
"""The folder of results. Every file in it is complete or absent, and several runners may share it.

::

    suites/NAME.json      what a suite resolved to: its cells with their keys, the settings, the images
    cells/KEY.json        a finished cell
    failures/KEY.json     a cell that failed, until it succeeds
    pictures/KEY/SET/     its first upscaled images of each test set
    latency/MACHINE/KEY.json  how fast a network is on one machine
    work/TRAINING_KEY/    option file, log, checkpoints and the trained network; lock: held while a process works on it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmb_quant.errors import LMBError
from lmb_quant.files import expanded, write_atomically

from .plan.cell import Cell

EAGER, COMPILED, ENGINE, PACKED = "eager", "compiled", "engine", "packed"
"""Forms in which a network is timed: PyTorch as it is, torch.compile with frozen weights, the float network in one call
of this project's engine, packed layers in it."""
RUN = "cell"
"""Name of the experiment inside a cell's folder."""


class Store:
    """Paths and files of one folder of results.

    Args:
        root: The folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = expanded(root).resolve()

    def work(self, cell: Cell) -> Path:
        """Where a cell is trained."""
        return self.root / "work" / cell.training_key

    def experiment(self, cell: Cell) -> Path:
        """BasicSR's folder of a cell's training."""
        return self.work(cell) / "experiments" / RUN

    def weights(self, cell: Cell) -> Path:
        """The file of a cell's trained network; it is there once the last step is done."""
        return self.experiment(cell) / "models" / "net_g_latest.pth"

    def pictures(self, cell: Cell | str) -> Path:
        """Where the upscaled images of a cell, or of its key, are."""
        return self.root / "pictures" / _key(cell)

    def log(self, cell: Cell) -> Path:
        """What the cell's process printed."""
        return self.work(cell) / f"{cell.key}.log"

    def result(self, cell: Cell | str) -> dict[str, Any] | None:
        """The figures of a finished cell, or of its key; None if it is not finished."""
        return self._read("cells", _key(cell))

    def write_result(self, cell: Cell, result: dict[str, Any]) -> None:
        """Finishes a cell."""
        self._write("cells", cell.key, result)
        (self.root / "failures" / f"{cell.key}.json").unlink(missing_ok=True)

    def failure(self, cell: Cell | str) -> dict[str, Any] | None:
        """Why a cell failed, by itself or by its key; None if it did not."""
        return self._read("failures", _key(cell))

    def write_failure(self, cell: Cell, failure: dict[str, Any]) -> None:
        """Records that a cell failed."""
        self._write("failures", cell.key, failure)

    def latency(self, machine: str, key: str) -> dict[str, Any] | None:
        """How fast a network is on a machine; None if it was not measured there."""
        return self._read(f"latency/{machine}", key)

    def write_latency(self, machine: str, key: str, record: dict[str, Any]) -> None:
        """Records how fast a network is on a machine."""
        self._write(f"latency/{machine}", key, record)

    def machines(self) -> list[str]:
        """Machines on which something was measured, the latest first."""
        return self._latest("latency/*/")

    def latency_lock(self) -> FileLock:
        """Held while a process measures."""
        (self.root / "latency").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "latency" / "lock")

    def suite(self, name: str) -> dict[str, Any] | None:
        """What a suite resolved to; None if it was never run here."""
        return self._read("suites", name)

    def write_suite(self, name: str, manifest: dict[str, Any]) -> None:
        """Records what a suite resolved to; its earlier record is replaced, results never are."""
        self._write("suites", name, manifest)

    def suites(self) -> list[str]:
        """Names of the suites that were run here, the latest first; those of a search for rates come last."""
        return sorted(self._latest("suites/*.json"), key=lambda name: bool((self.suite(name) or {}).get("is_trial")))

    def lock(self, cell: Cell) -> FileLock:
        """The lock of a cell's training; the system frees it when its process ends, however it ends."""
        folder = self.work(cell)
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "lock")

    def is_locked(self, cell: Cell) -> bool:
        """Whether some process works on the cell now."""
        if not (self.work(cell) / "lock").exists():
            return False
        try:
            with self.lock(cell).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _latest(self, pattern: str) -> list[str]:
        found = sorted(self.root.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.name.removesuffix(".json") for path in found]

    def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        path = self.root / kind / f"{name}.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LMBError(f"{path}: cannot be read: {error}. Remove it to do its work again.") from None

    def _write(self, kind: str, name: str, content: dict[str, Any]) -> None:
        path = self.root / kind / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def _key(cell: Cell | str) -> str:
    return cell if isinstance(cell, str) else cell.key
