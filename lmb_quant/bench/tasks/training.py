# SPDX-License-Identifier: Apache-2.0
"""Trains one cell and tests it: equal data, steps, optimiser and seed for all methods of a task."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.archs import LMBSRResNet
from lmb_quant.binarizers import set_progress
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.images import crop_to_multiple, reduce_image
from lmb_quant.integrations.basicsr.metrics import psnr_y, run_network, upscale_bicubic
from lmb_quant.integrations.timm.networks import make_network

from .data import Halves, as_tensor, draw_patches, held_out_patches
from .settings import Cell, Settings

MEAN, DEVIATION = 0.5, 0.25
"""What the classifier's input is normalised by."""

Tell = Callable[[int], None]


def build(cell: Cell, settings: Settings, classes: int) -> nn.Module:
    """The network of a cell, with the weights that its seed gives."""
    torch.manual_seed(settings.seed)
    if cell.task == "sr":
        sr = settings.sr
        return LMBSRResNet(num_feat=sr.num_feat, num_block=sr.num_block, upscale=sr.upscale, recipe=cell.recipe)
    options: dict[str, Any] = {
        "num_classes": classes,
        "channels": settings.classification.widths,
        "act_layer": "prelu",
    }
    if cell.recipe is None:
        return make_network("resnet18", **options)[0]
    return make_network("lmb_resnet18", recipe=cell.recipe, **options)[0]


def train(network: nn.Module, cell: Cell, photographs: Sequence[Halves], settings: Settings, tell: Tell) -> float:
    """Trains a network; ``tell`` hears of each step.

    Returns:
        Seconds.

    Raises:
        LMBError: If the loss is not finite.
    """
    start = time.perf_counter()
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps, 1e-6)
    network.train()
    for step, loss in enumerate(_losses(network, cell, photographs, settings)):
        if not bool(torch.isfinite(loss)):
            raise LMBError(f"{cell.name}: the loss is {float(loss)} at step {step}.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        tell(step + 1)
    network.eval()
    return time.perf_counter() - start


def _losses(network: nn.Module, cell: Cell, photographs: Sequence[Halves], settings: Settings) -> Iterator[Tensor]:
    generator = np.random.default_rng(settings.seed)
    side = settings.sr.patch if cell.task == "sr" else settings.classification.patch
    for step in range(settings.steps):
        set_progress(network, step / settings.steps)
        patches, numbers = draw_patches(photographs, side, settings.batch, generator)
        if cell.task == "sr":
            hr = as_tensor(patches)
            lr = F.interpolate(hr, scale_factor=1 / settings.sr.upscale, mode="bicubic", antialias=True).clamp(0, 1)
            yield F.l1_loss(network(lr), hr)
        else:
            yield F.cross_entropy(network(normalised(as_tensor(patches))), numbers)


def normalised(images: Tensor) -> Tensor:
    """Images in [0, 1] as the classifier takes them."""
    return (images - MEAN) / DEVIATION


def evaluate(network: nn.Module, cell: Cell, photographs: Sequence[Halves], settings: Settings) -> float:
    """PSNR on Y, dB, mean over the right quarters; or the share of their patches that are told right."""
    if cell.task == "sr":
        pairs = _pairs(photographs, settings.sr.upscale)
        return statistics.mean(psnr_y(run_network(network, lr), hr, settings.sr.upscale) for hr, lr in pairs)
    patches, numbers = held_out_patches(photographs, settings.classification.patch, settings.classification.tests)
    with torch.no_grad():
        answers = torch.cat([network(normalised(part)).argmax(1) for part in as_tensor(patches).split(64)])
    return float((answers == numbers).float().mean())


def baseline(task: str, photographs: Sequence[Halves], settings: Settings) -> float:
    """What needs no network: bicubic upscaling, or guessing."""
    if task == "classification":
        return 1 / len(photographs)
    pairs = _pairs(photographs, settings.sr.upscale)
    return statistics.mean(
        psnr_y(upscale_bicubic(lr, settings.sr.upscale), hr, settings.sr.upscale) for hr, lr in pairs
    )


def _pairs(photographs: Sequence[Halves], upscale: int) -> Iterator[tuple[Any, Any]]:
    """HR and LR right quarters, BGR."""
    for photograph in photographs:
        hr = crop_to_multiple(np.ascontiguousarray(photograph.test[..., ::-1]), upscale)
        yield hr, reduce_image(hr, upscale)
