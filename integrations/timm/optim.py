# SPDX-License-Identifier: Apache-2.0
"""timm's optimisers and schedulers by the names that option files give, without the prefix ``timm/``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch.optim import Optimizer

from lmb_quant.errors import LMBError, unknown_name

from .._keywords import call, check_keywords
from ._host import optim, scheduler

SCHEDULERS: dict[str, type[Any]] = {
    "cosine": scheduler.CosineLRScheduler,
    "multistep": scheduler.MultiStepLRScheduler,
    "poly": scheduler.PolyLRScheduler,
    "step": scheduler.StepLRScheduler,
    "tanh": scheduler.TanhLRScheduler,
}


def make_optimizer(name: str, params: Iterable[Any], lr: float | None = None, **options: Any) -> Optimizer:
    """Makes one of timm's optimisers.

    Args:
        name: timm's word, as ``timm.optim.list_optimizers()`` lists it: ``adamw``, ``lion``, ``adan``, ...
        params: Parameters or groups; what a group sets, such as ``weight_decay``, stays.
        lr: Learning rate; ``None`` is the optimiser's default.
        options: The optimiser's own, such as ``weight_decay`` or ``betas``.

    Raises:
        LMBError: If the name or an option is unknown, a value is not allowed, or the optimiser needs a package or a
            device that is not there.
    """
    place = f"timm optimizer {name!r}"
    names = optim.list_optimizers()
    if name not in names:
        raise LMBError(unknown_name("timm optimizer", name, names))
    make = call(place, optim.get_optimizer_class, {}, name, False)
    check_keywords(place, make, options, taken=1, given=("lr",))
    return cast(Optimizer, call(place, optim.create_optimizer_v2, {"opt": name, "lr": lr, **options}, list(params)))


def make_scheduler(name: str, optimizer: Optimizer, **options: Any) -> Any:
    """Makes one of timm's schedulers, counted in iterations.

    Args:
        name: ``cosine``, ``multistep``, ``poly``, ``step`` or ``tanh``.
        optimizer: What it steers; starts at ``warmup_lr_init`` where there is a warm-up.
        options: The scheduler's own, such as ``t_initial``, ``lr_min``, ``warmup_t``, ``decay_t``: all in iterations.

    Returns:
        The scheduler: ``step_update(iteration)`` sets the learning rate; ``state_dict``, ``load_state_dict``.

    Raises:
        LMBError: If the name or an option is unknown, or a value is not allowed.
    """
    place = f"timm scheduler {name!r}"
    if name not in SCHEDULERS:
        raise LMBError(unknown_name("timm scheduler", name, SCHEDULERS))
    check_keywords(place, SCHEDULERS[name], options, taken=1, given=("t_in_epochs",))
    return call(place, SCHEDULERS[name], {"t_in_epochs": False, **options}, optimizer)
