# SPDX-License-Identifier: Apache-2.0
"""What is compared: tasks, methods, and the settings that all of their trainings share."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ("sr", "classification")
METHODS = ("float", "sign", "lmb-global", "lmb")
"""The float network; one threshold for all, 0; the mean of each map; local means."""


@dataclass(frozen=True)
class SR:
    """Super-resolution: side of an HR patch, pixels; blocks and channels of LMBSRResNet."""

    patch: int = 96
    upscale: int = 4
    num_feat: int = 32
    num_block: int = 4


@dataclass(frozen=True)
class Classification:
    """Classification: side of a patch, pixels; tested patches of each photograph; widths of ResNet-18's stages."""

    patch: int = 64
    tests: int = 16
    widths: tuple[int, ...] = (16, 32, 64, 128)


@dataclass(frozen=True)
class Settings:
    """All settings; ``photographs``: at most so many, evenly from the folder."""

    photographs: int = 40
    steps: int = 400
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    sr: SR = SR()
    classification: Classification = Classification()


@dataclass(frozen=True)
class Cell:
    """One network to train."""

    task: str
    method: str

    @property
    def name(self) -> str:
        """Its name, which ``--only`` matches."""
        return f"{self.task}/{self.method}"

    @property
    def recipe(self) -> str | None:
        """The recipe; None for the float network."""
        return None if self.method == "float" else self.method


CELLS = tuple(Cell(task, method) for task in TASKS for method in METHODS)
