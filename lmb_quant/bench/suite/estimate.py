# SPDX-License-Identifier: Apache-2.0
"""How long missing cells will take, from measured steps where there are any, else from a few steps done now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from lmb_quant.integrations.basicsr.options import build

from .cells import Cell, trainings
from .progress import steps_done
from .store import Store

_WARM_UP, _STEPS = 1, 3


@dataclass(frozen=True)
class Estimate:
    """Seconds that a missing cell's remaining steps take; ``source`` says where the figure is from."""

    seconds: float
    source: str


def estimate(missing: Sequence[Cell], known: Sequence[Cell], store: Store) -> dict[str, Estimate]:
    """Estimates the training time of missing cells; start and evaluation are not in it.

    Args:
        missing: The cells.
        known: All cells of the suite; the finished ones among them give measured times.
        store: Where they are.

    Returns:
        By key. A step's time is, in this order: measured on the same network and method, measured on the same
        network under other methods (their mean), or calibrated: three steps on random numbers, now, on this machine.
    """
    measured: dict[tuple[Any, ...], list[float]] = {}
    for cell in known:
        result = store.result(cell)
        if result is not None and result.get("step_seconds"):
            for group in (_network(cell), (*_network(cell), cell.method)):
                measured.setdefault(group, []).append(result["step_seconds"])
    calibrated: dict[tuple[Any, ...], float] = {}
    found = {}
    leaders = trainings(missing)
    for cell in missing:
        same, network = (*_network(cell), cell.method), _network(cell)
        if not cell.steps:
            found[cell.key] = Estimate(0.0, "no training")
            continue
        if leaders[cell.training_key] is not cell:
            found[cell.key] = Estimate(0.0, f"trained with {leaders[cell.training_key].method}")
            continue
        if same in measured:
            seconds, source = statistics.mean(measured[same]), "measured"
        elif network in measured:
            seconds, source = statistics.mean(measured[network]), "measured on other methods"
        else:
            if same not in calibrated:
                calibrated[same] = _calibrate(cell)
            seconds, source = calibrated[same], f"calibrated by {_STEPS} steps"
        found[cell.key] = Estimate(seconds * (cell.steps - steps_done(cell, store)), source)
    return found


def _network(cell: Cell) -> tuple[Any, ...]:
    return cell.network, cell.upscale, cell.training.batch, cell.training.patch


def _calibrate(cell: Cell) -> float:
    """Median seconds of a training step on random numbers."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_num_threads()
    torch.set_num_threads(cell.threads)
    try:
        network = build(dict(cell.network_g or {})).to(device)
        optimizer = torch.optim.Adam(network.parameters())
        lr = torch.rand(cell.training.batch, 3, cell.training.patch, cell.training.patch, device=device)
        hr = F.interpolate(lr, scale_factor=float(cell.upscale), mode="bicubic")
        times = []
        for _ in range(_WARM_UP + _STEPS):
            start = time.perf_counter()
            optimizer.zero_grad()
            loss = F.l1_loss(network(lr), hr)
            loss.backward()
            optimizer.step()
            loss.item()  # waits for a GPU
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return statistics.median(times[_WARM_UP:])
