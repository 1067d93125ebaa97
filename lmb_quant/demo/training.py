# SPDX-License-Identifier: Apache-2.0
"""Trains a small network by each method through BasicSR's pipeline; recipe and learning rate differ."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lmb_quant.archs import LMBSRResNet
from lmb_quant.errors import LMBError
from lmb_quant.machine import cores
from lmb_quant.strict_yaml import dump_yaml

UPSCALE = 4
NETWORK: dict[str, Any] = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 8, "upscale": UPSCALE}
METHODS = {"sign": 1e-3, "lmb-spatial": 1e-3}
"""Recipes to compare, each with the learning rate that is best for it among 5e-4, 1e-3, 2e-3 and 4e-3."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its experiment folder."""
        return f"{self.method}_seed{self.seed}"


def _options(folder: Path, run: Run, steps: int) -> dict[str, Any]:
    """The BasicSR option file of a run. Only recipe, learning rate and name differ between the methods."""
    return {
        "name": run.name,
        "model_type": "LMBModel",
        "scale": UPSCALE,
        "num_gpu": 0,
        "manual_seed": run.seed,
        "datasets": {
            "train": {
                "name": "photographs",
                "type": "HRImageDataset",
                "dataroot_gt": str(folder / "training"),
                "gt_size": 24 * UPSCALE,
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 16,
                "dataset_enlarge_ratio": 100,
            },
            "val": {"name": "held_out", "type": "HRImageDataset", "dataroot_gt": str(folder / "held_out")},
        },
        "network_g": {"type": "LMBSRResNet", **NETWORK, "recipe": run.method},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0,
            "optim_g": {"type": "Adam", "lr": METHODS[run.method], "betas": [0.9, 0.99]},
            "scheduler": {"type": "CosineAnnealingLR", "eta_min": 1e-6},
            "total_iter": steps,
            "warmup_iter": -1,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {"val_freq": steps, "save_img": False, "metrics": {
            "psnr": {"type": "calculate_psnr", "crop_border": UPSCALE, "test_y_channel": True, "better": "higher"},
        }},
        "logger": {"print_freq": 10, "save_checkpoint_freq": steps, "use_tb_logger": False},
    }  # fmt: skip


def train_all(folder: Path, runs: Sequence[Run], steps: int) -> None:
    """Trains one run on each core at a time, each on one thread: equal conditions, and repeatable to the last digit."""
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    waiting, active = list(runs), dict[Run, subprocess.Popen[bytes]]()
    with Progress(*columns) as progress:
        tasks = {run: progress.add_task(run.name, total=steps) for run in runs}
        try:
            while waiting or active:
                while waiting and len(active) < cores():
                    run = waiting.pop(0)
                    active[run] = _start(folder, run, steps)
                time.sleep(0.5)
                for run, process in list(active.items()):
                    _show(progress, tasks[run], folder, run)
                    if process.poll() is not None:
                        _check(process, folder, run)
                        progress.update(tasks[run], completed=steps)
                        del active[run]
        finally:
            for process in active.values():
                process.kill()


def _start(folder: Path, run: Run, steps: int) -> subprocess.Popen[bytes]:
    path = folder / f"{run.name}.yml"
    path.write_text(dump_yaml(_options(folder, run, steps)), encoding="utf-8")
    command = [sys.executable, "-m", "lmb_quant.integrations.basicsr.train", "-opt", str(path)]
    with _log_file(folder, run).open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _log_file(folder: Path, run: Run) -> Path:
    return folder / f"{run.name}.log"


def _show(progress: Progress, task: TaskID, folder: Path, run: Run) -> None:
    steps = re.findall(
        rf"{run.name}: iter ([\d,]+)/", _log_file(folder, run).read_text(encoding="utf-8", errors="replace")
    )
    if steps:
        progress.update(task, completed=int(steps[-1].replace(",", "")))


def _check(process: subprocess.Popen[bytes], folder: Path, run: Run) -> None:
    if process.returncode != 0:
        log = _log_file(folder, run)
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise LMBError(f"{log}: the training run {run.name} failed: {' '.join(last)}")


def trained_network(folder: Path, run: Run) -> LMBSRResNet:
    """The network that a run trained."""
    path = folder / "experiments" / run.name / "models" / "net_g_latest.pth"
    network = LMBSRResNet(**NETWORK, recipe=run.method)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["params"])
    return network
