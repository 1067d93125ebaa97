# SPDX-License-Identifier: Apache-2.0
"""How an image is cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .network import Traits

_BUDGET = 2 << 30  # bytes for the feature maps of one run, where the user names no tile
_MAPS = 3  # feature maps that live at once, of the largest one's size
_SMALLEST = 64


@dataclass(frozen=True)
class Tile:
    """A part of an image, LR pixels: ``inner`` is what it contributes, ``outer`` what the network is shown.

    Both are (top, bottom, left, right); ``outer`` is ``inner`` and the overlap, cut at the image's borders.
    """

    inner: tuple[int, int, int, int]
    outer: tuple[int, int, int, int]


def automatic_side(traits: Traits, overlap: int, values: int) -> int:
    """Side of the tile whose run, with the overlap, needs about 2 GiB; ``values`` images are run at once."""
    pixels = _BUDGET / (_MAPS * max(1.0, traits.bytes_per_pixel) * values)
    return max(_SMALLEST, math.isqrt(int(pixels)) - 2 * overlap)


def at_once(bytes_per_pixel: float, pixels: int) -> int:
    """How many images of so many pixels may run at once within about 2 GiB; at least one."""
    return max(1, int(_BUDGET / (max(1.0, bytes_per_pixel) * pixels)))


def cut(height: int, width: int, tile: int, overlap: int, alignment: int) -> Iterator[Tile]:
    """Cuts an image; it stays whole where one tile with its overlap would cover it anyway.

    Args:
        height: LR pixels, as all others.
        width: Likewise.
        tile: Side of a tile.
        overlap: What is added on each side of it.
        alignment: Tiles begin at multiples of this.
    """
    overlap = -(-overlap // alignment) * alignment
    step = max(1, tile // alignment) * alignment
    if max(height, width) <= step + 2 * overlap:
        step = max(height, width)
    for top in range(0, height, step):
        for left in range(0, width, step):
            inner = (top, min(top + step, height), left, min(left + step, width))
            outer = (
                max(0, inner[0] - overlap),
                min(height, inner[1] + overlap),
                max(0, inner[2] - overlap),
                min(width, inner[3] + overlap),
            )
            yield Tile(inner, outer)
