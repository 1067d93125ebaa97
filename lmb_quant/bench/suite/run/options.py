# SPDX-License-Identifier: Apache-2.0
"""The BasicSR option file of a cell. Between the methods of a suite only the recipe and its own hooks differ."""

from __future__ import annotations

from typing import Any

from lmb_quant.bench.suite.plan.cell import Cell, ImageSet
from lmb_quant.bench.suite.store import RUN


def training_options(cell: Cell, *, num_gpu: int) -> dict[str, Any]:
    """Makes the options.

    Args:
        cell: A cell with a network.
        num_gpu: 0 for the CPU, else 1.
    """
    training, border = cell.training, cell.upscale
    metric = {"crop_border": border, "test_y_channel": True, "better": "higher"}
    validation = next(images for images in cell.test if images.name == cell.validation)
    return {
        "name": RUN,
        "model_type": "LMBModel",
        "scale": cell.upscale,
        "num_gpu": num_gpu,
        "manual_seed": cell.seed,
        "datasets": {
            "train": {
                "name": "train",
                "type": "HRImageDataset",
                "dataroot_gt": [images.folder for images in cell.train],
                "gt_size": training.patch * cell.upscale,
                "skip_small": True,
                "num_worker_per_gpu": training.workers,
                "batch_size_per_gpu": training.batch,
                "dataset_enlarge_ratio": _enlarge_ratio(cell.train, training.batch),
            },
            "val": {"name": validation.name, "type": "HRImageDataset", "dataroot_gt": validation.folder},
        },
        "network_g": cell.network_g,
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": training.ema_decay,
            "optim_g": training.optimizer,
            "scheduler": training.scheduler,
            "total_iter": training.steps,
            "warmup_iter": -1,
            "pixel_opt": training.loss,
            "precision": "fp32",  # what a method reaches must not depend on the machine
            "hooks": [*cell.hooks, {"type": "StepTimes"}],
        },
        "val": {
            "val_freq": training.validate_every,
            "save_img": False,
            "metrics": {"psnr": {"type": "calculate_psnr", **metric}, "ssim": {"type": "calculate_ssim", **metric}},
        },
        "logger": {
            "print_freq": max(1, training.steps // 50),
            "save_checkpoint_freq": training.checkpoint_every,
            "use_tb_logger": False,
        },
    }


def _enlarge_ratio(sets: tuple[ImageSet, ...], batch: int) -> int:
    """Passes over the images between two starts of the loader: a hundred batches or more. The data stay the same."""
    return max(1, -(-100 * batch // sum(images.images for images in sets)))
