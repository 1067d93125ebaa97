# SPDX-License-Identifier: Apache-2.0
"""What a run shows: all steps with the time left, and the cells that are in work."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import Self

from lmb_quant.integrations.basicsr.hooks.step_times import read_step_times

from .cells import Cell, trainings
from .options import RUN
from .store import Store


def steps_done(cell: Cell, store: Store) -> int:
    """Training steps of a cell that need not be done again: those before its last checkpoint."""
    if store.result(cell) is not None:
        return cell.steps
    states = (store.work(cell) / "experiments" / RUN / "training_states").glob("*.state")
    return max((int(path.stem) for path in states if path.stem.isdigit()), default=0)


def steps_now(cell: Cell, store: Store) -> int:
    """Training steps that a cell in work has done, as of a second ago."""
    times = read_step_times(store.work(cell) / "experiments" / RUN)
    return max(steps_done(cell, store), int(times.get("iter", 0)))


class RunProgress:
    """Bars of a run; a context manager. Without a terminal only :meth:`ended` prints.

    Args:
        cells: The cells of this run that are not finished.
        total: Cells of this run in all.
        store: Where they are done.
        console: Where it is shown.
    """

    def __init__(self, cells: Sequence[Cell], total: int, store: Store, console: Console) -> None:
        self.cells, self.total, self.store, self.console = list(cells), total, store, console
        self.ended_count = total - len(self.cells)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=120)
        steps = sum(cell.steps for cell in trainings(self.cells).values())
        self._all = self._progress.add_task(self._label(), total=steps, completed=self._done())
        self._bars: dict[str, TaskID] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def tick(self) -> None:
        """Reads how far the cells are."""
        if self._progress.disable:
            return
        for cell in trainings([cell for cell in self.cells if cell.key not in self._ended]).values():
            if self.store.work(cell).exists() and self.store.is_locked(cell):
                if cell.key not in self._bars:
                    self._bars[cell.key] = self._progress.add_task(f"  {cell.name}", total=cell.steps)
                self._progress.update(self._bars[cell.key], completed=steps_now(cell, self.store))
            elif cell.key in self._bars:
                self._progress.remove_task(self._bars.pop(cell.key))
        self._progress.update(self._all, completed=self._done(), description=self._label())

    def ended(self, cell: Cell, text: str) -> None:
        """Counts a cell and prints one line."""
        self.ended_count += 1
        self._ended.add(cell.key)
        if cell.key in self._bars:
            self._progress.remove_task(self._bars.pop(cell.key))
        self.console.print(f"[{self.ended_count}/{self.total}] {cell.name}: {text}", soft_wrap=True, markup=False)

    def _done(self) -> int:
        return sum(steps_now(cell, self.store) for cell in trainings(self.cells).values())

    def _label(self) -> str:
        return f"{self.ended_count}/{self.total} cells, steps"
