# SPDX-License-Identifier: Apache-2.0
"""Finished cells in the folder of results: figures as JSON, the float networks' weights beside them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmb_quant.files import is_file, write_atomically
from lmb_quant.integrations.basicsr.checkpoint import load_weights, save_atomically
from lmb_quant.recipe import Recipe

from .settings import TASKS, Cell, Settings

_FORM = 1
"""Raised when what a cell computes changes, so that older results are not taken for new ones."""


class Store:
    """The files.

    Args:
        root: Folder of results; cells are in ``tasks/`` below it.
        settings: The settings, a part of each cell's key.
        images: A hash of the photographs, another.
    """

    def __init__(self, root: Path, settings: Settings, images: str) -> None:
        self.folder = root / "tasks"
        self.settings, self.images = settings, images

    def _path(self, cell: Cell, ending: str) -> Path:
        recipe = None if cell.recipe is None else Recipe.load(cell.recipe).to_dict()
        version = torch.__version__.split("+")[0]
        settings = asdict(self.settings)
        of_task = [settings.pop(task) for task in TASKS][TASKS.index(cell.task)]
        what = [_FORM, cell.name, recipe, settings, of_task, self.images, version]
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{key}{ending}"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """A finished cell's figures; None if it is not finished."""
        path = self._path(cell, ".json")
        return dict(json.loads(path.read_text(encoding="utf-8"))) if is_file(path) else None

    def finish(self, cell: Cell, network: nn.Module, result: dict[str, Any]) -> None:
        """Keeps a cell's weights, then its figures: where they are, the weights are too."""
        save_atomically({"params": network.state_dict()}, self._path(cell, ".pth"))
        write_atomically(self._path(cell, ".json"), json.dumps(result, indent=2).encode())

    def load(self, cell: Cell, network: nn.Module) -> nn.Module:
        """Gives a network the weights of a finished cell."""
        load_weights(network, self._path(cell, ".pth"))
        return network.eval()
