# SPDX-License-Identifier: Apache-2.0
"""Small photographs, small option files, and ways to run them."""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

if importlib.util.find_spec("basicsr") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import lmb_quant.integrations.basicsr  # noqa: F401 - before anything of basicsr is

OPTIONS: dict[str, Any] = {
    "name": "tiny",
    "model_type": "LMBModel",
    "scale": 2,
    "num_gpu": 0,
    "manual_seed": 3,
    "datasets": {
        "train": {
            "name": "train",
            "type": "HRImageDataset",
            "dataroot_gt": "images/train",
            "gt_size": 24,
            "num_worker_per_gpu": 0,
            "batch_size_per_gpu": 2,
            "dataset_enlarge_ratio": 3,
        },
        "val": {"name": "held_out", "type": "HRImageDataset", "dataroot_gt": "images/val"},
    },
    "network_g": {"type": "LMBSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2},
    "path": {"pretrain_network_g": None},
    "train": {
        "ema_decay": 0.9,
        "optim_g": {"type": "Adam", "lr": 1e-3},
        "scheduler": {"type": "CosineAnnealingLR"},
        "total_iter": 12,
        "pixel_opt": {"type": "L1Loss"},
    },
    "val": {
        "val_freq": 4,
        "metrics": {
            "psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True},
            "ssim": {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True},
        },
    },
    "logger": {"print_freq": 2, "save_checkpoint_freq": 4},
}


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth, coloured texture with edges, ``(H, W, 3)``, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * rng.uniform(0.1, 1) + y * rng.uniform(0.1, 1) + rng.uniform(0, 6)) for _ in range(3)]
    edges = (x * rng.uniform(-1, 1) + y > height / 2).astype(float)
    image = np.stack([0.5 + 0.25 * wave + 0.2 * edges for wave in waves], axis=-1)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with images, which is the current one; one thread, as exact equality needs."""
    for folder, sizes in (("train", [(40, 52), (47, 33), (30, 30)]), ("val", [(37, 45), (26, 28)])):
        (tmp_path / "images" / folder).mkdir(parents=True)
        for i, size in enumerate(sizes):
            Image.fromarray(picture(10 * len(folder) + i, *size)).save(tmp_path / "images" / folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def options() -> dict[str, Any]:
    """Options of a training that takes a second."""
    return copy.deepcopy(OPTIONS)


@pytest.fixture
def evaluation_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of an evaluation."""
    options["datasets"] = {"test_1": options["datasets"]["val"]}
    options["val"].pop("val_freq")
    for key in ("train", "logger"):
        options.pop(key)
    return options


@pytest.fixture
def run(workplace: Path) -> Callable[..., int]:
    """Writes options to a file and runs training, or testing, in this process; returns the exit code."""

    def run(opt: dict[str, Any], *arguments: str, test: bool = False) -> int:
        from lmb_quant.integrations.basicsr import test as testing
        from lmb_quant.integrations.basicsr import train as training

        path = workplace / "options.yml"
        path.write_text(yaml.safe_dump(opt))
        return (testing if test else training).main(["-opt", str(path), *arguments])

    return run


@pytest.fixture
def fails(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs options that must be refused with exit code 2 before anything is created; returns the message."""

    def fails(opt: dict[str, Any], *arguments: str, test: bool = False) -> str:
        before = set(Path.cwd().iterdir()) | {Path.cwd() / "options.yml"}
        assert run(opt, *arguments, test=test) == 2
        assert set(Path.cwd().iterdir()) == before
        return capsys.readouterr().err

    return fails


@pytest.fixture
def command(workplace: Path) -> Callable[..., list[str]]:
    """Writes options to a file and gives the command that trains by it in another process."""

    def command(opt: dict[str, Any], *arguments: str, launcher: tuple[str, ...] = ()) -> list[str]:
        path = workplace / f"{opt['name']}.yml"
        path.write_text(yaml.safe_dump(opt))
        module = ("-m", "lmb_quant.integrations.basicsr.train", "-opt", str(path))
        return [sys.executable, *launcher, *module, *arguments]

    return command


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of other processes: one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
