# SPDX-License-Identifier: Apache-2.0
"""Both parts of the demo, their tables and their pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from lmb_quant.archs import LMBSRResNet
from lmb_quant.counting import summary
from lmb_quant.integrations.basicsr.images import BGRImage
from lmb_quant.integrations.basicsr.metrics import run_network, upscale_bicubic
from lmb_quant.photographs import HELD_OUT, TRAINING, copy_photographs
from lmb_quant.serialize import from_pretrained
from lmb_quant.table import make_table
from lmb_quant.upscaling import Upscaler
from lmb_quant.zoo import DEFAULT

from .folder import take_folder
from .photographs import HeldOut, Score
from .training import METHODS, NETWORK, UPSCALE, Run, train_all, trained_network

STEPS = 250


def run_demo(folder: Path, *, seeds: int = 1, steps: int = STEPS) -> dict[str, list[Score]]:
    """Upscales photographs by a trained network, then trains each method, and compares.

    Writes ``upscaled/``, ``upscaled.png`` and ``comparison.png``.

    Args:
        folder: A new or an empty one, or that of an earlier demo; photographs and runs go there. Runs of an earlier
            demo are archived, not overwritten (BasicSR renames them).
        seeds: Runs of each method, with seeds 0, 1, ...
        steps: Training steps of each run; 0 trains nothing.

    Returns:
        For bicubic, the trained network that comes with the package, and each method, one score a seed.

    Raises:
        LMBError: If the folder holds other files or cannot be written into, the photographs are missing, or a training
            run fails.
    """
    console = Console()
    folder = folder.resolve()
    take_folder(folder)
    for part, names in (("training", TRAINING), ("held_out", HELD_OUT)):
        copy_photographs(folder / part, names)
    held_out = HeldOut(folder, UPSCALE)
    outputs = {"bicubic": [upscale_bicubic(image, UPSCALE) for image in held_out.lr]}
    scores = {"bicubic": [held_out.score(outputs["bicubic"])]}
    scores[DEFAULT] = [_upscale(console, folder, held_out, scores["bicubic"][0], outputs["bicubic"])]
    if steps == 0:
        return scores
    runs = [Run(method, seed) for seed in range(seeds) for method in METHODS]
    console.print(
        f"\nLMB against plain sign: {len(runs)} runs of {steps} steps on {len(TRAINING)} photographs", soft_wrap=True
    )
    train_all(folder, runs, steps)
    for run in runs:
        network = trained_network(folder, run)
        upscaled = [run_network(network, image) for image in held_out.lr]
        outputs.setdefault(run.method, upscaled)
        scores.setdefault(run.method, []).append(held_out.score(upscaled))
    _print_comparison(console, {name: found for name, found in scores.items() if name != DEFAULT})
    _draw(console, held_out, folder / "comparison.png", outputs)
    return scores


def _upscale(console: Console, folder: Path, held_out: HeldOut, bicubic: Score, plain: list[BGRImage]) -> Score:
    """Upscales the held-out photographs by the default network, packed; writes them, shows figures and time."""
    upscaler = Upscaler(from_pretrained(DEFAULT))
    start = time.perf_counter()
    outputs = [
        np.ascontiguousarray(upscaler(np.ascontiguousarray(image[..., ::-1]))[..., ::-1]) for image in held_out.lr
    ]
    seconds = time.perf_counter() - start
    score = held_out.score(outputs)
    rows = [
        ("bicubic", f"{bicubic.psnr:.2f}", f"{bicubic.ssim:.4f}"),
        (DEFAULT, f"{score.psnr:.2f}", f"{score.ssim:.4f}"),
    ]
    console.print(
        f"x{UPSCALE}, {', '.join(HELD_OUT)}: upscaled by {DEFAULT}, packed, in {seconds:.2f} s "
        f"({torch.get_num_threads()} threads)"
    )
    console.print(make_table(("method", "PSNR Y, dB", "SSIM Y"), rows, right=range(1, 3)))
    (folder / "upscaled").mkdir(exist_ok=True)
    for name, image in zip(HELD_OUT, outputs, strict=True):
        Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(folder / "upscaled" / f"{Path(name).stem}.png")
    _draw(console, held_out, folder / "upscaled.png", {"bicubic": plain, DEFAULT: outputs})
    return score


def _draw(console: Console, held_out: HeldOut, picture: Path, outputs: dict[str, list[BGRImage]]) -> None:
    held_out.save_picture(picture, outputs)
    console.print(f"Side by side: {picture}", soft_wrap=True)


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
