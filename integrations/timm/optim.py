# SPDX-License-Identifier: Apache-2.0
"""timm's optimisers and schedulers by the names that option files give, without the prefix ``timm/``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

from torch.optim import Optimizer

from lmb_quant.errors import LMBError, unknown_name

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
    make = _call(place, optim.get_optimizer_class, name, False)
    _check_keywords(place, make, options, ours=("lr",))
    return cast(Optimizer, _call(place, optim.create_optimizer_v2, list(params), opt=name, lr=lr, **options))


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
    _check_keywords(place, SCHEDULERS[name], options, ours=("t_in_epochs",))
    return _call(place, SCHEDULERS[name], optimizer, t_in_epochs=False, **options)


def _check_keywords(place: str, make: Callable[..., Any], options: dict[str, Any], ours: tuple[str, ...]) -> None:
    """Raises for an unknown or a missing option; the first parameter and ``ours`` are given by this module."""
    _, *parameters = inspect.signature(make).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names = [parameter.name for parameter in parameters if parameter.name not in ours]
        for key in options:
            if key not in names:
                raise LMBError(f"{place}: {unknown_name('option', key, names)}")
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if needed and parameter.name not in (*options, *ours):
            raise LMBError(f"{place}: the option {parameter.name!r} is missing.")


def _call(place: str, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return make(*args, **options)
    except (AssertionError, ImportError, KeyError, TypeError, ValueError) as error:
        given = f"{options!r} is not allowed: " if options else ""
        raise LMBError(f"{place}: {given}{error}") from error
