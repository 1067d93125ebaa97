# SPDX-License-Identifier: Apache-2.0
"""What a run shows: all steps with the time left, the cells in work, and a line for each that ended."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.plan.cells import trainings
from lmb_quant.bench.suite.store import Store
from lmb_quant.integrations.basicsr.hooks.step_times import read_step_times


def steps_done(cell: Cell, store: Store) -> int:
    """Training steps of a cell that need not be done again: those before its last checkpoint."""
    if store.result(cell) is not None:
        return cell.steps
    states = (store.experiment(cell) / "training_states").glob("*.state")
    return max((int(path.stem) for path in states if path.stem.isdigit()), default=0)


class RunProgress(Progress):
    """The bar of a run; a context manager. Without a terminal only :meth:`ended` prints.

    Args:
        cells: The cells of this run that are not finished.
        total: Cells of this run in all.
        store: Where they are done.
        console: Where it is shown.
    """

    def __init__(self, cells: Sequence[Cell], total: int, store: Store, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=120)
        self._trainings, self._total, self._store = list(trainings(cells).values()), total, store
        self._left = {cell.key: cell for cell in cells}
        self._bar = self.add_task("", total=sum(cell.steps for cell in self._trainings), completed=self._done())

    def tick(self) -> None:
        """Reads how far the cells are."""
        if not self.disable:
            left = trainings(list(self._left.values())).values()
            work = [cell.name for cell in left if self._store.is_locked(cell)]
            label = f"{self._total - len(self._left)}/{self._total} cells; {', '.join(work) or 'none'} in work; steps"
            self.update(self._bar, completed=self._done(), description=label)

    def ended(self, cell: Cell, text: str) -> None:
        """Counts a cell and prints one line."""
        del self._left[cell.key]
        done = f"[{self._total - len(self._left)}/{self._total}]"
        self.console.print(f"{done} {cell.name}: {text}", soft_wrap=True, markup=False)
        self.tick()

    def _done(self) -> int:
        """Steps that are done, as of a second ago."""
        now = (read_step_times(self._store.experiment(cell)).get("iter", 0) for cell in self._trainings)
        return sum(max(steps_done(cell, self._store), int(it)) for cell, it in zip(self._trainings, now, strict=True))
