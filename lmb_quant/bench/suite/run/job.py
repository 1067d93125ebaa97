# SPDX-License-Identifier: Apache-2.0
"""What a run is to do: a suite with its images found, its cells listed, and the place of its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lmb_quant.bench.suite.environment import versions
from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.plan.cells import make_cells, select, trainings
from lmb_quant.bench.suite.plan.data import SuiteData, find_data
from lmb_quant.bench.suite.plan.schema import Suite
from lmb_quant.bench.suite.store import Store
from lmb_quant.files import make_folder


@dataclass(frozen=True)
class Job:
    """A suite with its images found, its cells listed, and the place of its results."""

    suite: Suite
    cells: tuple[Cell, ...]
    selected: tuple[Cell, ...]
    images: SuiteData
    store: Store
    is_trial: bool = False
    """Whether it is one of a search: a report is about another one unless its name is given."""

    @property
    def distinct(self) -> list[Cell]:
        """The selected cells; of those that are the same under several names, the first."""
        return list({cell.key: cell for cell in reversed(self.selected)}.values())[::-1]

    @property
    def missing(self) -> list[Cell]:
        """The distinct cells that are not finished; last those that share their training with another one."""
        cells = [cell for cell in self.distinct if self.store.result(cell) is None]
        leaders = trainings(cells)
        return sorted(cells, key=lambda cell: leaders[cell.training_key] is not cell)

    def record(self) -> None:
        """Writes down what the suite resolved to, which its report reads."""
        names = ("network", "method", "upscale", "seed", "key")
        self.store.write_suite(
            self.suite.name,
            {
                "suite": self.suite.model_dump(mode="json", by_alias=True),
                "data": self.images.model_dump(mode="json"),
                "is_trial": self.is_trial,
                "cells": [
                    {
                        **{name: getattr(cell, name) for name in names},
                        "latency_key": None if cell.network_g is None else cell.latency_key,
                    }
                    for cell in self.cells
                ],
            },
        )

    def remark(self) -> str:
        """How many finished cells were made by other code, in a sentence; empty if none."""
        today = _code(versions())
        found = [_code(result["versions"]) for cell in self.distinct if (result := self.store.result(cell))]
        others = sum(code != today or code[1].endswith("-dirty") for code in found)
        if not others:
            return ""
        return (
            f"{others} finished cells were made by other code than today's (version and commit of lmb-quant). They "
            "count as finished; --output with another folder trains them anew."
        )


def prepare(suite: str | Path | Suite, *, data: Path | None, output: Path, only: str | None = None) -> Job:
    """Reads a suite, finds its images and lists its cells.

    Args:
        suite: The suite, the name of a shipped one, or a path.
        data: Folder with ``train/<set>`` and ``test/<set>``; None where the suite brings its own.
        output: Folder of results.
        only: Glob for the names of cells, or for parts of them.

    Raises:
        LMBError: If the suite, its images, a method or the glob is wrong, or the folder of results cannot be made.
    """
    loaded = suite if isinstance(suite, Suite) else Suite.load(suite)
    store = Store(output)
    images = find_data(loaded, data, store.root)
    cells = make_cells(loaded, images)
    job = Job(loaded, tuple(cells), tuple(select(cells, only)), images, store)
    make_folder(store.root)
    return job


def _code(of: dict[str, str]) -> tuple[str, str]:
    """Version and commit; uncommitted changes differ from all."""
    return of["lmb-quant"], of.get("commit", "not recorded")


def say(console: Console, text: str) -> None:
    """Prints text as it is, where there is any."""
    if text:
        console.print(text, soft_wrap=True, markup=False, highlight=False)
