# SPDX-License-Identifier: Apache-2.0
"""An image file in memory: its upright pixels and its metadata."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .colour import LAYOUTS
from .metadata import Metadata

Pixels = Image.Image | NDArray[np.uint8] | NDArray[np.uint16]
"""A PIL image of 8 bits, mode L, LA, RGB, RGBA or CMYK; or an array ``(H, W, C)`` of 8 or 16 bits, C = 1 to 4."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The upright pixels of a file, its metadata, and ``lost``: what of the metadata could not be read, in words."""

    pixels: Pixels
    metadata: Metadata
    lost: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """L, LA, RGB, RGBA or CMYK."""
        return self.pixels.mode if isinstance(self.pixels, Image.Image) else LAYOUTS[self.pixels.shape[2]]

    @property
    def bits(self) -> int:
        """Bits of a channel."""
        return 8 if isinstance(self.pixels, Image.Image) or self.pixels.dtype == np.uint8 else 16

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]
