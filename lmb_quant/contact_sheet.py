# SPDX-License-Identifier: Apache-2.0
"""Parts of pictures side by side, each under its label, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_GAP, _LABEL = 4, 18  # pixels


@dataclass(frozen=True)
class Tile:
    """A square part of a picture.

    Args:
        label: One line above it.
        pixels: RGB ``(S, S, 3)``, uint8.
    """

    label: str
    pixels: NDArray[np.uint8]


def contact_sheet(rows: Sequence[Sequence[Tile]], side: int) -> Image.Image:
    """Puts tiles side by side.

    Args:
        rows: Tiles from the left to the right, row by row from above.
        side: Of each tile in the result, pixels; tiles are enlarged without smoothing.

    Returns:
        The sheet, RGB.
    """
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * (side + _GAP), len(rows) * (side + _LABEL + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            x, y = column * (side + _GAP), row * (side + _LABEL + _GAP)
            draw.text((x + _GAP, y + 3), tile.label, fill="black")
            picture = Image.fromarray(np.ascontiguousarray(tile.pixels))
            sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (x, y + _LABEL))
    return sheet
