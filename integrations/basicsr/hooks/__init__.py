# SPDX-License-Identifier: Apache-2.0
"""Trainer hooks, one file each, and the checked way from an option file's list to objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.integrations._keywords import call_with_options

from ._base import Hook as Hook
from .approximator_schedule import ApproximatorSchedule
from .best_checkpoint import BestCheckpoint
from .clip_binary_weights import ClipBinaryWeights
from .compile import Compile
from .distillation import Distillation
from .flip_ratio import FlipRatio
from .gradient_clipping import GradientClipping
from .mixed_precision import MixedPrecision
from .nan_guard import NanGuard
from .progress_bar import ProgressBar
from .step_times import StepTimes
from .training_progress import TrainingProgress

_ALWAYS: tuple[type[Hook], ...] = (NanGuard, ProgressBar, TrainingProgress)
HOOKS: Mapping[str, type[Hook]] = MappingProxyType(
    {
        hook.__name__: hook
        for hook in (
            ApproximatorSchedule,
            BestCheckpoint,
            ClipBinaryWeights,
            Compile,
            Distillation,
            FlipRatio,
            GradientClipping,
            MixedPrecision,
            StepTimes,
        )
    }
)


def make_hooks(choices: Sequence[Mapping[str, Any]] | None) -> list[Hook]:
    """Makes the hooks of ``train: hooks:``, in their order, after those that are always on.

    Args:
        choices: Mappings of ``type`` and the hook's options; None for none.

    Raises:
        LMBError: If a hook or an option is unknown, or a value is not allowed.
    """
    if choices is not None and (isinstance(choices, str | Mapping) or not isinstance(choices, Sequence)):
        raise LMBError(f"train.hooks: {choices!r} is not allowed. Allowed: a list of {{type: NAME, OPTION: VALUE}}.")
    hooks = [hook() for hook in _ALWAYS]
    for i, choice in enumerate(choices or ()):
        place = f"train.hooks[{i}]"
        if not isinstance(choice, Mapping) or "type" not in choice:
            raise LMBError(f"{place}: {choice!r} is not allowed. Allowed: {{type: NAME, OPTION: VALUE}}.")
        options = dict(choice)
        kind = options.pop("type")
        if not isinstance(kind, str) or kind not in HOOKS:
            raise LMBError(f"{place}: {unknown_name('hook', kind, HOOKS)}")
        hooks.append(call_with_options(f"{place}: {kind}", HOOKS[kind], options))
    return hooks
