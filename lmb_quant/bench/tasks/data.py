# SPDX-License-Identifier: Apache-2.0
"""Photographs, of which the left three quarters are to train on and the right quarter is to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmb_quant.analysis import Photograph, read_photographs
from lmb_quant.errors import LMBError

from .settings import Settings

Pixels = NDArray[np.uint8]

_READ = 4  # times as many are read as are used, since some may be too small


@dataclass(frozen=True, eq=False)
class Halves:
    """A photograph in two parts; RGB, ``(H, W, 3)``, uint8."""

    name: str
    train: Pixels
    test: Pixels


def read_halves(folder: Path, settings: Settings) -> tuple[list[Halves], int]:
    """Reads the photographs of a folder and cuts each in two.

    Returns:
        The photographs, evenly from those that are large enough, and how many were too small.

    Raises:
        LMBError: If fewer than two are large enough.
    """
    found = read_photographs(folder, settings.photographs * _READ)
    large = [photograph for photograph in found if _fits(photograph, settings)]
    if len(large) < 2:
        side = max(settings.sr.patch, settings.classification.patch)
        width = max(-(-side * 4 // 3), settings.classification.patch * 4)
        raise LMBError(
            f"--data: {str(folder)!r} holds {len(large)} photographs that are large enough, of {len(found)}. "
            f"Allowed: two or more, of {width} x {side} pixels or more."
        )
    chosen = np.unique(np.linspace(0, len(large) - 1, min(settings.photographs, len(large))).round().astype(int))
    return [_cut(large[i]) for i in chosen], len(found) - len(large)


def _fits(photograph: Photograph, settings: Settings) -> bool:
    height, width = photograph.pixels.shape[:2]
    side, border = max(settings.sr.patch, settings.classification.patch), width * 3 // 4
    return height >= side and border >= side and width - border >= settings.classification.patch


def _cut(photograph: Photograph) -> Halves:
    border = photograph.pixels.shape[1] * 3 // 4
    return Halves(photograph.name, photograph.pixels[:, :border], photograph.pixels[:, border:])


def contents(photographs: Sequence[Halves]) -> str:
    """A hash of all pixels, in their order."""
    digest = hashlib.sha256()
    for photograph in photographs:
        for part in (photograph.train, photograph.test):
            digest.update(repr(part.shape).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def draw_patches(
    photographs: Sequence[Halves], side: int, count: int, generator: np.random.Generator
) -> tuple[Pixels, Tensor]:
    """Draws patches of the parts to train on.

    Returns:
        The patches, ``(count, side, side, 3)``, half of them mirrored, and the number of each one's photograph.
    """
    numbers = generator.integers(0, len(photographs), count)
    patches = []
    for number in numbers:
        image = photographs[number].train
        top, left = (int(generator.integers(0, length - side + 1)) for length in image.shape[:2])
        patch = image[top : top + side, left : left + side]
        patches.append(patch[:, ::-1] if generator.random() < 0.5 else patch)
    return np.stack(patches), torch.from_numpy(numbers)


def held_out_patches(photographs: Sequence[Halves], side: int, count: int) -> tuple[Pixels, Tensor]:
    """Patches of the parts to test on, evenly from top to bottom and from left to right; always the same."""
    patches, numbers = [], []
    columns = max(1, round(count**0.5 / 2))
    rows = -(-count // columns)
    for number, photograph in enumerate(photographs):
        height, width = photograph.test.shape[:2]
        for i in range(count):
            top = round((height - side) * (i // columns) / max(1, rows - 1))
            left = round((width - side) * (i % columns) / max(1, columns - 1))
            patches.append(photograph.test[top : top + side, left : left + side])
            numbers.append(number)
    return np.stack(patches), torch.tensor(numbers)


def as_tensor(patches: Pixels) -> Tensor:
    """``(N, H, W, 3)``, uint8, to ``(N, 3, H, W)`` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2).float() / 255
