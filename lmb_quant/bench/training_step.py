# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of a training step: binary networks against their float counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lmb_quant.archs import LMBSRResNet
from lmb_quant.machine import Machine, multiplies_bf16
from lmb_quant.modules import binary_convs, set_precision
from lmb_quant.recipe import recipe_names
from lmb_quant.table import render

from .child import in_child
from .measure import Competitor, Timing, clock_of, time_in_turn
from .memory import can_measure, peak_of_call
from .report import to_json

FLOAT, FP32, BF16 = "float", "fp32", "bf16"
# glibc then gives large blocks back when they are freed: a peak is what a step holds, not how its heap broke up
_RETURNED = {"MALLOC_MMAP_THRESHOLD_": "1000000"}


@dataclass(frozen=True)
class Step:
    """One network's step: time, and bytes at its peak above those before it (None where the system does not tell)."""

    recipe: str
    precision: str
    trains_by: str
    timing: Timing
    peak: int | None


@dataclass(frozen=True)
class TrainingStepReport:
    """Steps of each network; ``print`` shows medians and peaks with their ratio to the float network in fp32."""

    network: dict[str, int]
    batch: tuple[int, int, int, int]
    threads: int
    rounds: int
    machine: Machine
    steps: tuple[Step, ...]
    note: str = ""

    def __str__(self) -> str:
        base = self.steps[0]
        rows = [
            (
                step.recipe,
                step.precision,
                step.trains_by,
                f"{step.timing.shown.median * 1e3:.1f}",
                f"{step.timing.shown.minimum * 1e3:.1f}",
                f"{step.timing.shown.median / base.timing.shown.median:.2f}x",
                "" if step.peak is None else f"{step.peak / 2**20:.0f}",
                "" if not step.peak or not base.peak else f"{step.peak / base.peak:.2f}x",
            )
            for step in self.steps
        ]
        title = (
            f"training step (forward, backward, Adam) of LMBSRResNet {self.network}, LR batch {self.batch}; "
            f"{self.threads} thread(s); {clock_of(self.threads)}, {self.rounds} interleaved rounds\n{self.machine}"
        )
        columns = ("recipe", "precision", "by", "median ms", "least ms", "against float", "peak MiB", "against float")
        table = render(title, columns, rows, right=(3, 4, 5, 6, 7))
        return f"{table}\n{self.note}" if self.note else table

    def to_json(self) -> str:
        """The figures as JSON; seconds, bytes."""
        return to_json(self)


class _Trainer:
    """One network in training on one fixed batch."""

    def __init__(self, network: dict[str, Any], recipe: str, precision: str, batch: tuple[int, int, int, int]) -> None:
        torch.manual_seed(0)
        model = LMBSRResNet(**network, recipe=None if recipe == FLOAT else recipe)
        set_precision(model, precision)
        self.precision = precision
        self.trains_by = "PyTorch" if recipe == FLOAT else next(binary_convs(model)).trains_by
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr = torch.rand(batch).contiguous(memory_format=torch.channels_last)
        self.hr = F.interpolate(self.lr, scale_factor=model.upscale, mode="bicubic")
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(self) -> None:
        """Does one step."""
        self.optimizer.zero_grad()
        with self._autocast():
            output = self.model(self.lr)
        F.l1_loss(output.float(), self.hr).backward()
        self.optimizer.step()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.precision == BF16 else nullcontext()


def _peak(network: dict[str, Any], recipe: str, precision: str, batch: tuple[int, int, int, int], threads: int) -> int:
    torch.set_num_threads(threads)
    trainer = _Trainer(network, recipe, precision, batch)
    trainer.step()  # loads all code, makes the optimiser's state
    trainer.optimizer.zero_grad()
    return peak_of_call(trainer.step)


def measure_training_steps(
    recipes: Sequence[str] | None = None, *, rounds: int = 15, threads: int = 1, smoke: bool = False
) -> TrainingStepReport:
    """Times training steps of recipes and of the float network, in turn, and measures the peak memory of each.

    In bf16 the forward pass runs under autocast, and binary layers as :func:`lmb_quant.set_precision` says; it is left
    out, with a note, on a CPU that does not multiply it.

    Args:
        recipes: Names or paths, as :meth:`lmb_quant.Recipe.load` takes them; by default every shipped recipe.
        rounds: Timed steps of each network.
        threads: CPU threads.
        smoke: Tiny sizes, to see that it runs.

    Raises:
        LMBError: If there is no such recipe.
    """
    network = {"num_feat": 8, "num_block": 1} if smoke else {"num_feat": 64, "num_block": 8}
    batch = (1, 3, 8, 8) if smoke else (16, 3, 32, 32)
    has_bf16 = multiplies_bf16()
    precisions = (FP32, BF16) if has_bf16 else (FP32,)
    names = [(name, precision) for name in (FLOAT, *(recipes or recipe_names())) for precision in precisions]
    trainers = {name: _Trainer(network, *name, batch) for name in names}
    timings = time_in_turn({name: Competitor(t.step, threads=threads) for name, t in trainers.items()}, rounds)
    steps = tuple(
        Step(
            *name,
            trainers[name].trains_by,
            timing,
            in_child(_peak, network, *name, batch, threads, environment=_RETURNED) if can_measure() else None,
        )
        for name, timing in timings.items()
    )
    note = "" if has_bf16 else "bf16: not timed, this CPU does not multiply it."
    return TrainingStepReport(network, batch, threads, rounds, Machine(), steps, note)
