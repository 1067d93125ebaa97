# SPDX-License-Identifier: Apache-2.0
"""Optimisers and schedulers by the names that option files give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.integrations._keywords import call_with_options

from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

TIMM = "timm/"
_OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: getattr(torch.optim, name) for name in ("Adam", "AdamW", "NAdam", "RAdam", "SGD")
}


def _cosine(optimizer: Optimizer, *, T_max: int, eta_min: float = 0.0) -> CosineAnnealingRestartLR:  # noqa: N803 - torch's word
    """One cosine from the optimiser's rate down to ``eta_min`` at iteration ``T_max``, by default total_iter."""
    return CosineAnnealingRestartLR(optimizer, periods=[T_max], eta_min=eta_min)


_SCHEDULERS: dict[str, Callable[..., Any]] = {
    "CosineAnnealingLR": _cosine,
    "CosineAnnealingRestartLR": CosineAnnealingRestartLR,
    "MultiStepLR": MultiStepRestartLR,
    "MultiStepRestartLR": MultiStepRestartLR,
}


class _TimmScheduler:
    """A timm scheduler under BasicSR's call, ``step()`` before each iteration but the first."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.updates = scheduler, 0

    def step(self) -> None:
        self.updates += 1
        self.scheduler.step_update(self.updates)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self.scheduler.load_state_dict(state["scheduler"])


def make_optimizer(kind: str, params: Iterable[Any], **options: Any) -> Optimizer:
    """Makes the optimiser of ``train.optim_g``.

    Args:
        kind: ``Adam``, ``AdamW``, ``NAdam``, ``RAdam``, ``SGD``, or ``timm/<name>``.
        params: Parameters or groups.
        options: ``lr`` and the optimiser's own.

    Raises:
        LMBError: If the name or an option is unknown, or a value is not allowed.
    """
    if kind.startswith(TIMM):
        from lmb_quant.integrations.timm import optim

        return optim.make_optimizer(kind.removeprefix(TIMM), params, **options)
    if kind not in _OPTIMIZERS:
        raise LMBError(f"train.optim_g: {unknown_name('optimizer', kind, [*_OPTIMIZERS, 'timm/<name>'])}")
    return call_with_options(f"train.optim_g: {kind}", _OPTIMIZERS[kind], options, params)


def make_scheduler(kind: str, optimizer: Optimizer, total_iter: int, **options: Any) -> Any:
    """Makes a scheduler of ``train.scheduler``.

    Args:
        kind: ``CosineAnnealingLR``, one of BasicSR's, or ``timm/<name>``.
        optimizer: What it steers.
        total_iter: Iterations of the training.
        options: The scheduler's own.

    Raises:
        LMBError: If the name or an option is unknown, or the periods end before the training does.
    """
    if kind.startswith(TIMM):
        from lmb_quant.integrations.timm import optim

        return _TimmScheduler(optim.make_scheduler(kind.removeprefix(TIMM), optimizer, **options))
    if kind not in _SCHEDULERS:
        raise LMBError(f"train.scheduler: {unknown_name('scheduler', kind, [*_SCHEDULERS, 'timm/<name>'])}")
    if kind == "CosineAnnealingLR":
        options = {"T_max": total_iter, **options}
    periods = options.get("periods", [options["T_max"]] if "T_max" in options else None)
    if periods is not None and sum(periods) < total_iter - 1:
        raise LMBError(f"train.scheduler: {kind}: {periods!r} ends before train.total_iter, {total_iter}.")
    return call_with_options(f"train.scheduler: {kind}", _SCHEDULERS[kind], options, optimizer)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, with the decay; and biases, scales and shifts (fewer than two dimensions), without."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
