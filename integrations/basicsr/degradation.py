# SPDX-License-Identifier: Apache-2.0
"""Slight damage to LR images, as photographs have it: blur, noise, JPEG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from random import Random
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lmb_quant.errors import LMBError, unknown_name

from .images import BGRImage
from .numbers import is_number

BLOCK = 8
"""Side of JPEG's blocks in pixels."""

_ALLOWED = {"blur": (0, 10), "noise": (0, 100), "jpeg": (1, 100)}


@dataclass(frozen=True)
class Degradation:
    """Ranges to draw from, evenly: first a blur, then noise, then JPEG.

    JPEG's colours have half the resolution (4:2:0) in one of two draws, as files of cameras and of the web differ.

    Args:
        blur: Standard deviation of a Gaussian blur in LR pixels, least and most; 0 is none.
        noise: Standard deviation of Gaussian noise in levels of 255, least and most; each channel its own.
        jpeg: Quality, least and most, 1 to 100; None is no JPEG.

    Raises:
        LMBError: If a range is not allowed.

    Source:
        This project's choice.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, given in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if given is None and name == "jpeg":
                continue
            whole, (least, most) = name == "jpeg", _ALLOWED[name]
            pair = tuple(given) if isinstance(given, list | tuple) else ()
            fits = len(pair) == 2 and all(is_number(value) and (isinstance(value, int) or not whole) for value in pair)
            if not fits or not least <= pair[0] <= pair[1] <= most:
                raise LMBError(
                    f"degradation: {name}: {given!r} is not allowed. "
                    f"Allowed: [least, most], two {'whole ' * whole}numbers from {least} to {most}."
                )
            object.__setattr__(self, name, pair)

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Degradation | None:
        """Makes what the key ``degradation`` of a data set says; None where nothing is given.

        Raises:
            LMBError: If it is no mapping, a key is unknown, or a range is not allowed.
        """
        if options is None:
            return None
        names = [field.name for field in fields(cls)]
        if not isinstance(options, Mapping):
            raise LMBError(f"degradation: {options!r} is not allowed. Allowed: a mapping of {', '.join(names)}.")
        for key in options:
            if key not in names:
                raise LMBError(f"degradation: {unknown_name('key', key, names)}")
        return cls(**options)

    def __call__(self, image: BGRImage, draws: Random) -> BGRImage:
        """Damages an image.

        Args:
            image: BGR ``(H, W, 3)``, uint8; its first pixel begins a JPEG block.
            draws: What strength and noise are drawn from.

        Returns:
            A new image of the same shape.
        """
        blur, noise = draws.uniform(*self.blur), draws.uniform(*self.noise)
        if blur > 0:
            image = cv2.GaussianBlur(image, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
        if noise > 0:
            grain = np.random.default_rng(draws.getrandbits(64)).standard_normal(image.shape, np.float32)
            image = (image + noise * grain).round().clip(0, 255).astype(np.uint8)
        if self.jpeg is not None:
            image = _through_jpeg(image, draws.randint(*self.jpeg), subsampling=draws.choice(("4:4:4", "4:2:0")))
        return np.ascontiguousarray(image)

    def patch(self, image: BGRImage, top: int, left: int, side: int, draws: Random) -> BGRImage:
        """Damages what is around a square of an image, and cuts the square out.

        JPEG's blocks begin anywhere in the square, as they do in a photograph.

        Args:
            image: BGR ``(H, W, 3)``, uint8.
            top: First row of the square.
            left: First column.
            side: Of the square, in pixels.
            draws: What strength, noise and blocks are drawn from.
        """
        y, x = (max(0, first - draws.randrange(BLOCK)) for first in (top, left))
        below, right = (
            begin + BLOCK * math.ceil((first + side - begin) / BLOCK) for begin, first in ((y, top), (x, left))
        )
        damaged = self(image[y:below, x:right], draws)
        return damaged[top - y : top - y + side, left - x : left - x + side]


def _through_jpeg(image: BGRImage, quality: int, *, subsampling: str) -> BGRImage:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))[..., ::-1]
