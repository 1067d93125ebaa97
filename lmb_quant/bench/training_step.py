# SPDX-License-Identifier: Apache-2.0
"""Time of a training step: binary networks against their float counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lmb_quant.archs import LMBSRResNet
from lmb_quant.recipe import recipe_names
from lmb_quant.table import render

from .measure import Competitor, Timing, clock_of, time_in_turn
from .report import Machine, to_json

FLOAT = "float"


@dataclass(frozen=True)
class TrainingStepReport:
    """Time of a step for each recipe; ``print`` shows medians with their ratio to the float network."""

    network: dict[str, int]
    batch: tuple[int, int, int, int]
    threads: int
    rounds: int
    machine: Machine
    steps: dict[str, Timing]

    def __str__(self) -> str:
        base = self.steps[FLOAT].shown.median
        rows = [
            (
                name,
                f"{step.shown.median * 1e3:.1f}",
                f"{step.shown.minimum * 1e3:.1f}",
                f"{step.shown.median / base:.2f}x",
            )
            for name, step in self.steps.items()
        ]
        title = (
            f"training step (forward, backward, Adam) of LMBSRResNet {self.network}, LR batch {self.batch}; "
            f"{self.threads} thread(s); {clock_of(self.threads)}, {self.rounds} interleaved rounds\n{self.machine}"
        )
        return render(title, ("recipe", "median ms", "least ms", "against float"), rows, right=(1, 2, 3))

    def to_json(self) -> str:
        """The figures as JSON; seconds."""
        return to_json(self)


class _Trainer:
    """One network in training on one fixed batch."""

    def __init__(self, network: dict[str, Any], recipe: str, batch: tuple[int, int, int, int]) -> None:
        torch.manual_seed(0)
        model = LMBSRResNet(**network, recipe=None if recipe == FLOAT else recipe)
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr = torch.rand(batch).contiguous(memory_format=torch.channels_last)
        self.hr = F.interpolate(self.lr, scale_factor=model.upscale, mode="bicubic")
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(self) -> None:
        """Does one step."""
        self.optimizer.zero_grad()
        F.l1_loss(self.model(self.lr), self.hr).backward()
        self.optimizer.step()


def measure_training_steps(
    recipes: Sequence[str] | None = None, *, rounds: int = 15, threads: int = 1, smoke: bool = False
) -> TrainingStepReport:
    """Times training steps of recipes and of the float network, in turn.

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
    trainers = {name: _Trainer(network, name, batch) for name in (FLOAT, *(recipes or recipe_names()))}
    steps = time_in_turn({name: Competitor(t.step, threads=threads) for name, t in trainers.items()}, rounds)
    return TrainingStepReport(network, batch, threads, rounds, Machine(), steps)
