# SPDX-License-Identifier: Apache-2.0
"""Time of a training step: binary networks against their float counterpart."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lmb_quant.archs import LMBSRResNet
from lmb_quant.recipe import recipe_names
from lmb_quant.table import render

FLOAT = "float"


@dataclass(frozen=True)
class TrainingStepReport:
    """Median seconds of a step for each recipe; ``print`` shows them with their ratio to the float network."""

    network: dict[str, int]
    batch: tuple[int, int, int, int]
    threads: int
    rounds: int
    cpu: str
    seconds: dict[str, float]

    def __str__(self) -> str:
        base = self.seconds[FLOAT]
        rows = [(name, f"{t * 1e3:.1f}", f"{t / base:.2f}x") for name, t in self.seconds.items()]
        title = (
            f"training step (forward, backward, Adam) of LMBSRResNet {self.network}, LR batch {self.batch}, "
            f"{self.threads} thread(s), {self.cpu}, median of {self.rounds} interleaved rounds"
        )
        return render(title, ("recipe", "ms", "against float"), rows, right=(1, 2))

    def to_json(self) -> str:
        """The figures as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


class _Trainer:
    """One network in training on one fixed batch."""

    def __init__(self, network: dict[str, Any], recipe: str, batch: tuple[int, int, int, int]) -> None:
        torch.manual_seed(0)
        model = LMBSRResNet(**network, recipe=None if recipe == FLOAT else recipe)
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr = torch.rand(batch).contiguous(memory_format=torch.channels_last)
        self.hr = F.interpolate(self.lr, scale_factor=model.upscale, mode="bicubic")
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(self) -> float:
        """Does one step and returns its seconds."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        F.l1_loss(self.model(self.lr), self.hr).backward()
        self.optimizer.step()
        return time.perf_counter() - start


def measure_training_steps(*, rounds: int = 15, threads: int = 1, smoke: bool = False) -> TrainingStepReport:
    """Times training steps of every shipped recipe and of the float network, in turn.

    Args:
        rounds: Timed steps of each network.
        threads: CPU threads.
        smoke: Tiny sizes, to see that it runs.

    Returns:
        Medians in seconds.
    """
    network = {"num_feat": 8, "num_block": 1} if smoke else {"num_feat": 64, "num_block": 8}
    batch = (1, 3, 8, 8) if smoke else (16, 3, 32, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        trainers = {name: _Trainer(network, name, batch) for name in (FLOAT, *recipe_names())}
        times: dict[str, list[float]] = {name: [] for name in trainers}
        for i in range(rounds + 1):
            for name, trainer in trainers.items():
                seconds = trainer.step()
                if i > 0:  # the first round warms up
                    times[name].append(seconds)
    finally:
        torch.set_num_threads(before)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return TrainingStepReport(network, batch, threads, rounds, torch.backends.cpu.get_cpu_capability(), medians)
