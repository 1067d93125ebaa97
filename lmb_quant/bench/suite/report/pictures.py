# SPDX-License-Identifier: Apache-2.0
"""Crops of the upscaled images, for looking at side by side."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .rows import Findings

SIDE = 128
"""Height and width of a crop in pixels."""
PER_SET = 2
"""Images of each test set that are shown."""

_HR = "HR"


def make_crops(findings: Findings) -> dict[str, dict[str, str]]:
    """Cuts the same window out of each method's result, first seed, and of the HR image.

    The window is the one with the most fine detail of the HR image (mean distance from its blurred copy).

    Returns:
        By image (``x4 Set5 baby``) and label: a data URI, lossless. Images that are no longer there are left out.
    """
    crops: dict[str, dict[str, str]] = {}
    for upscale in findings.upscales:
        rows = [row for row in findings.rows if row.upscale == upscale]
        for name in findings.sets:
            folder = findings.store.pictures(rows[0].keys[0]) / name
            for original in sorted(folder.glob("*.hr.png"))[:PER_SET]:
                stem = original.name.removesuffix(".hr.png")
                box = _busiest(original)
                shown = {_HR: _data_uri(original, box)}
                for row in rows:
                    path = findings.store.pictures(row.keys[0]) / name / f"{stem}.png"
                    if path.exists():
                        shown[findings.label(row)] = _data_uri(path, box)
                crops[f"x{upscale} {name} {stem}"] = shown
    return crops


def _busiest(path: Path) -> tuple[int, int, int, int]:
    """Left, upper, right and lower border of the window with the most detail."""
    with Image.open(path) as image:
        gray = image.convert("L")
        detail = np.abs(np.asarray(gray, np.float64) - np.asarray(gray.filter(ImageFilter.GaussianBlur(2)), np.float64))
    height, width = (min(SIDE, length) for length in detail.shape)
    sums = _window_sums(detail, height, width)
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(left), int(top), int(left) + width, int(top) + height


def _window_sums(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Sums of all windows, by their upper left corner."""
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]


def _data_uri(path: Path, box: tuple[int, int, int, int]) -> str:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").crop(box).save(buffer, "WEBP", lossless=True, quality=100)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
