# SPDX-License-Identifier: Apache-2.0
"""The demo: LMB against plain sign on real photographs, trained through BasicSR's pipeline under equal conditions."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lmb_quant.archs import LMBSRResNet
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.images import Pixels, crop_to_multiple, read_image, reduce_image
from lmb_quant.integrations.basicsr.metrics import enlarge_image, psnr_y, run_network, ssim_y
from lmb_quant.report import summary
from lmb_quant.table import make_table

STEPS = 250
METHODS = ("sign", "lmb")
UPSCALE = 4
NETWORK: dict[str, Any] = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 8, "upscale": UPSCALE}
# Photographs that scikit-image ships: NASA's, and others in the public domain or under CC0 (its data/README.txt).
TRAINING = (
    "astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "brick.png", "grass.png", "gravel.png",
    "camera.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "coins.png",
)  # fmt: skip
HELD_OUT = ("chelsea.png", "coffee.png", "rocket.jpg")


@dataclass(frozen=True)
class Run:
    """One training run."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its experiment folder."""
        return f"{self.method}_seed{self.seed}"


@dataclass(frozen=True)
class Score:
    """PSNR (dB) and SSIM on Y, means over the held-out photographs."""

    psnr: float
    ssim: float


def run_demo(folder: Path, *, seeds: int = 1, steps: int = STEPS) -> dict[str, list[Score]]:
    """Trains each method, prints the comparison and writes ``comparison.png``.

    Args:
        folder: Made if it is missing; photographs and runs go there. Runs of an earlier demo are archived, not
            overwritten (BasicSR renames them).
        seeds: Runs of each method, with seeds 0, 1, ...
        steps: Training steps of each run.

    Returns:
        For bicubic and each method, one score a seed.

    Raises:
        LMBError: If the photographs are missing or a training run fails.
    """
    console = Console()
    folder = folder.resolve()
    _copy_photographs(folder)
    runs = [Run(method, seed) for seed in range(seeds) for method in METHODS]
    console.print(f"{len(runs)} runs of {steps} steps on {len(TRAINING)} photographs, in {folder}", soft_wrap=True)
    _train_all(folder, runs, steps)

    images = [crop_to_multiple(read_image(folder / "held_out" / name), UPSCALE) for name in HELD_OUT]
    small = [reduce_image(image, UPSCALE) for image in images]
    outputs = {"bicubic": [enlarge_image(image, UPSCALE) for image in small]}
    scores = {"bicubic": [_score(outputs["bicubic"], images)]}
    for run in runs:
        network = _trained_network(folder, run)
        upscaled = [run_network(network, image) for image in small]
        outputs.setdefault(run.method, upscaled)
        scores.setdefault(run.method, []).append(_score(upscaled, images))
    _print_comparison(console, scores)
    picture = folder / "comparison.png"
    _save_picture(picture, {"HR": images, **outputs})
    console.print(f"Side by side: {picture}", soft_wrap=True)
    return scores


def _copy_photographs(folder: Path) -> None:
    source = files("skimage").joinpath("data")
    for part, names in (("training", TRAINING), ("held_out", HELD_OUT)):
        target = folder / part
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (target / name).exists():
                (target / name).write_bytes(source.joinpath(name).read_bytes())


def _options(folder: Path, run: Run, steps: int) -> dict[str, Any]:
    """The BasicSR option file of a run. Only the recipe and the name differ between the methods."""
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
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
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


def _train_all(folder: Path, runs: Sequence[Run], steps: int) -> None:
    """Trains one run on each core at a time, each on one thread: equal conditions, and repeatable to the last digit."""
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    waiting, active = list(runs), dict[Run, subprocess.Popen[bytes]]()
    with Progress(*columns) as progress:
        tasks = {run: progress.add_task(run.name, total=steps) for run in runs}
        try:
            while waiting or active:
                while waiting and len(active) < _cores():
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(folder: Path, run: Run, steps: int) -> subprocess.Popen[bytes]:
    path = folder / f"{run.name}.yml"
    path.write_text(yaml.safe_dump(_options(folder, run, steps), sort_keys=False), encoding="utf-8")
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


def _trained_network(folder: Path, run: Run) -> LMBSRResNet:
    path = folder / "experiments" / run.name / "models" / "net_g_latest.pth"
    network = LMBSRResNet(**NETWORK, recipe=run.method)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["params"])
    return network


def _score(outputs: Sequence[Pixels], images: Sequence[Pixels]) -> Score:
    pairs = list(zip(outputs, images, strict=True))
    return Score(
        statistics.mean(psnr_y(output, image, UPSCALE) for output, image in pairs),
        statistics.mean(ssim_y(output, image, UPSCALE) for output, image in pairs),
    )


def _print_comparison(console: Console, scores: dict[str, list[Score]]) -> None:
    rows = []
    for name, runs in scores.items():
        psnr, ssim = _mean_and_spread([run.psnr for run in runs], 2), _mean_and_spread([run.ssim for run in runs], 4)
        if name == "bicubic":
            rows.append((name, psnr, ssim, "", ""))
            continue
        figures = summary(LMBSRResNet(**NETWORK, recipe=name), (1, 3, 180, 320))
        ops, size = figures.ops / 1e9, figures.bytes / 1e3
        rows.append((name, psnr, ssim, f"{ops:.3f} ({figures.float_ops / figures.ops:.1f}x fewer)",
                     f"{size:.1f} ({figures.float_bytes / figures.bytes:.1f}x fewer)"))  # fmt: skip
    console.print(
        f"\nx{UPSCALE}, held-out photographs ({', '.join(HELD_OUT)}); OPs for a 320 x 180 input; against float32"
    )
    columns = ("method", "PSNR Y, dB", "SSIM Y", "OPs, G", "kB packed")
    console.print(make_table(columns, rows, right=range(1, 5)))


def _mean_and_spread(values: Sequence[float], digits: int) -> str:
    """Mean; over several seeds also the standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _save_picture(path: Path, outputs: dict[str, list[Pixels]]) -> None:
    """Writes a part of each held-out photograph, one row each, the methods side by side with their PSNR."""
    side, label = 224, 18
    sheet = Image.new("RGB", (len(outputs) * (side + 4), len(HELD_OUT) * (side + label + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, images) in enumerate(outputs.items()):
        for row, (image, reference) in enumerate(zip(images, outputs["HR"], strict=True)):
            top, left = ((size - side // 2) // 2 for size in image.shape[:2])
            crop = np.ascontiguousarray(image[top : top + side // 2, left : left + side // 2, ::-1])
            x, y = column * (side + 4), row * (side + label + 4)
            text = name if name == "HR" else f"{name} {psnr_y(image, reference, UPSCALE):.2f} dB"
            draw.text((x + 4, y + 3), text, fill="black")
            sheet.paste(Image.fromarray(crop).resize((side, side), Image.Resampling.NEAREST), (x, y + label))
    sheet.save(path)
