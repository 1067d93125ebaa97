# SPDX-License-Identifier: Apache-2.0
"""The demo's photographs, and what a method makes of those that are held out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lmb_quant.contact_sheet import Tile, contact_sheet
from lmb_quant.integrations.basicsr.images import BGRImage, crop_to_multiple, read_bgr, reduce_image
from lmb_quant.integrations.basicsr.metrics import psnr_y, ssim_y
from lmb_quant.photographs import HELD_OUT

_PART = 112
"""Side of the part of a photograph that is shown, HR pixels."""


@dataclass(frozen=True)
class Score:
    """PSNR (dB) and SSIM on Y, means over the held-out photographs."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class HeldOut:
    """The photographs that no network has seen, HR and LR; BGR, ``(H, W, 3)``, uint8.

    Args:
        folder: The demo's; they are in ``held_out`` in it.
        upscale: SR factor.
    """

    folder: Path
    upscale: int

    @cached_property
    def hr(self) -> list[BGRImage]:
        """The photographs."""
        return [crop_to_multiple(read_bgr(self.folder / "held_out" / name), self.upscale) for name in HELD_OUT]

    @cached_property
    def lr(self) -> list[BGRImage]:
        """Their bicubic reductions."""
        return [reduce_image(image, self.upscale) for image in self.hr]

    def score(self, outputs: Sequence[BGRImage]) -> Score:
        """Compares what a method made of :attr:`lr` with :attr:`hr`."""
        pairs = list(zip(outputs, self.hr, strict=True))
        return Score(
            statistics.mean(psnr_y(output, image, self.upscale) for output, image in pairs),
            statistics.mean(ssim_y(output, image, self.upscale) for output, image in pairs),
        )

    def save_picture(self, path: Path, outputs: dict[str, list[BGRImage]]) -> None:
        """Writes the middle of each photograph, one row each: HR, then the methods' with their PSNR."""
        rows = []
        for row, (photograph, reference) in enumerate(zip(HELD_OUT, self.hr, strict=True)):
            top, left = ((size - _PART) // 2 for size in reference.shape[:2])
            shown = {Path(photograph).stem: reference} | {
                f"{name} {psnr_y(images[row], reference, self.upscale):.2f} dB": images[row]
                for name, images in outputs.items()
            }
            rows.append(
                [Tile(label, image[top : top + _PART, left : left + _PART, ::-1]) for label, image in shown.items()]
            )
        contact_sheet(rows, 2 * _PART).save(path)
