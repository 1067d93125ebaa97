# SPDX-License-Identifier: Apache-2.0
"""A suite whose cells take a second or two, its images, and ways to run it."""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

if importlib.util.find_spec("basicsr") is None or importlib.util.find_spec("filelock") is None:
    collect_ignore_glob = ["test_*.py"]

SUITE: dict[str, Any] = {
    "version": 1,
    "name": "tiny",
    "networks": {"net": {"arch": {"type": "LMBSRResNet", "num_feat": 8, "num_block": 1}}},
    "methods": ["float", "sign", "lmb"],
    "upscale": [2],
    "seeds": [0],
    "data": {"train": ["a"], "test": ["c"]},
    "training": {
        "steps": 6,
        "batch": 2,
        "patch": 8,
        "optimizer": {"type": "Adam", "lr": 1e-3},
        "scheduler": {"type": "CosineAnnealingLR"},
        "validate_every": 3,
        "checkpoint_every": 3,
    },
    "latency": False,  # compiles for a minute; measured by tests of its own
}


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth, coloured texture, ``(H, W, 3)``, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * rng.uniform(0.1, 1) + y * rng.uniform(0.1, 1) + rng.uniform(0, 6)) for _ in range(3)]
    return (np.stack([0.5 + 0.4 * wave for wave in waves], axis=-1) * 255).round().astype(np.uint8)


@pytest.fixture
def suite() -> dict[str, Any]:
    """The suite as data, to be changed."""
    return copy.deepcopy(SUITE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with train/a, train/b and test/c, test/d."""
    sizes = {"train/a": [(40, 52), (30, 30)], "train/b": [(33, 36)], "test/c": [(37, 45)], "test/d": [(26, 28)]}
    for place, (folder, images) in enumerate(sizes.items()):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i, size in enumerate(images):
            Image.fromarray(picture(10 * place + i, *size)).save(tmp_path / "data" / folder / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a suite to a file."""

    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def job(write: Callable[[dict[str, Any]], Path], data: Path, tmp_path: Path) -> Callable[..., Any]:
    """Prepares a suite in tmp_path/out."""

    def job(content: dict[str, Any], only: str | None = None) -> Any:
        from lmb_quant.bench.suite.run.job import prepare

        return prepare(write(content), data=data, output=tmp_path / "out", only=only)

    return job


@pytest.fixture
def command(write: Callable[[dict[str, Any]], Path], data: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command that runs a suite in another process, into tmp_path/out."""

    def command(content: dict[str, Any], *arguments: str) -> list[str]:
        places = ["--data", str(data), "--output", str(tmp_path / "out")]
        code = "from lmb_quant.cli import main; main()"
        return [sys.executable, "-c", code, "bench", "run", str(write(content)), *places, *arguments]

    return command


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes have one thread."""
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
