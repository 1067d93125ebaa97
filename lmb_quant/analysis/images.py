# SPDX-License-Identifier: Apache-2.0
"""Photographs, and what a network is given of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lmb_quant.errors import LMBError
from lmb_quant.files import files_ending, is_folder
from lmb_quant.photographs import HELD_OUT, shipped_photograph
from lmb_quant.upscaling.formats import READ_ENDINGS
from lmb_quant.upscaling.reading import read_image

_LEAST_SIDE = 8


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph: RGB, ``(H, W, 3)``, uint8."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network is given.

    ``tensor`` is ``(N, C, H, W)`` as the network takes it; ``rgb`` the same images in [0, 1], ``(N, 3, H, W)``;
    ``original`` for SR the photographs at the size of the result, ``(N, 3, upscale H, upscale W)``, else None.
    """

    names: tuple[str, ...]
    tensor: Tensor
    rgb: Tensor
    original: Tensor | None


def read_photographs(folder: Path | None = None, limit: int = 8) -> list[Photograph]:
    """Reads the photographs of a folder.

    Args:
        folder: The folder; by default those photographs of scikit-image that the demo holds out.
        limit: At most so many, evenly from all sorted by name.

    Raises:
        LMBError: If there is no folder, no image in it, or one cannot be read.
    """
    if folder is None:
        paths = [shipped_photograph(name) for name in HELD_OUT]
    elif not is_folder(folder):
        raise LMBError(
            f"--images: {str(folder)!r} is no folder. Allowed: a folder of images ({', '.join(READ_ENDINGS)})."
        )
    else:
        paths = files_ending(folder, READ_ENDINGS)
    if not paths:
        raise LMBError(f"--images: {str(folder)!r} holds no image. Allowed: {', '.join(READ_ENDINGS)}, directly in it.")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int))
    return [Photograph(paths[i].name, _rgb(paths[i])) for i in chosen]


def _rgb(path: Path) -> NDArray[np.uint8]:
    pixels = read_image(path).pixels
    if isinstance(pixels, Image.Image):
        return np.asarray(pixels.convert("RGB"))
    eight = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
    return np.ascontiguousarray(eight[..., :3] if eight.shape[2] >= 3 else np.repeat(eight[..., :1], 3, axis=2))


def lr_inputs(photographs: Sequence[Photograph], *, upscale: int, channels: int, side: int) -> Inputs:
    """Cuts the middle out of each photograph, and reduces it by ``upscale`` (bicubic).

    Args:
        photographs: Of any size that is large enough.
        upscale: SR factor.
        channels: 3 (RGB) or 1 (Y) of the network's input.
        side: Height and width of the LR images, pixels; less where a photograph is smaller, for all alike.

    Raises:
        LMBError: If a photograph is too small; names it.
    """
    least = min(photographs, key=lambda photograph: min(photograph.pixels.shape[:2]))
    side = min(side, min(least.pixels.shape[:2]) // upscale)
    if side < _LEAST_SIDE:
        height, width = least.pixels.shape[:2]
        raise LMBError(
            f"{least.name}: {width} x {height} pixels are too few for a network of x{upscale}. "
            f"Allowed: {_LEAST_SIDE * upscale} or more on both sides."
        )
    crops = [_middle(photograph.pixels, side * upscale) for photograph in photographs]
    original = torch.stack([_tensor(crop) for crop in crops])
    lr = [Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC) for crop in crops]
    rgb = torch.stack([_tensor(np.asarray(image)) for image in lr])
    names = tuple(photograph.name for photograph in photographs)
    return Inputs(names, _as_channels(rgb, channels), rgb, _as_channels(original, channels))


def square_inputs(
    photographs: Sequence[Photograph], *, side: int, channels: int, mean: Sequence[float], deviation: Sequence[float]
) -> Inputs:
    """The largest square in the middle of each photograph at one size (bicubic), normalised as classifiers take it.

    Args:
        photographs: Of any size.
        side: Height and width, pixels.
        channels: 3 or 1.
        mean: Of each channel, subtracted from values in [0, 1].
        deviation: Of each channel, the divisor after it.
    """
    squares = [_middle(photograph.pixels, min(photograph.pixels.shape[:2])) for photograph in photographs]
    resized = [Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC) for square in squares]
    rgb = torch.stack([_tensor(np.asarray(image)) for image in resized])
    planes = _as_channels(rgb, channels)
    tensor = (planes - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(deviation).view(1, -1, 1, 1)
    return Inputs(tuple(photograph.name for photograph in photographs), tensor, rgb, None)


def _middle(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)


def _as_channels(rgb: Tensor, channels: int) -> Tensor:
    return rgb if channels == 3 else torch.einsum("c,nchw->nhw", torch.tensor([0.299, 0.587, 0.114]), rgb)[:, None]
