# SPDX-License-Identifier: Apache-2.0
"""PSNR and SSIM of a cell's output on the test sets, image by image, by the code that validation uses."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.images import BGRImage, crop_to_multiple, find_images, read_bgr, reduce_image
from lmb_quant.integrations.basicsr.metrics import psnr_y, ssim_y

Upscaling = Callable[[BGRImage], BGRImage]
"""Upscales a BGR image ``(H, W, 3)``, uint8, to ``(upscale H, upscale W, 3)``."""

_SSIM_WINDOW = 11

PICTURES = 3
"""Upscaled images of each test set that are kept for the report, and the HR ones beside them."""


def evaluate(
    upscaled: Upscaling, sets: Mapping[str, str], upscale: int, pictures: Path | None = None
) -> dict[str, Any]:
    """Evaluates by the field's protocol: Y of the 8-bit image, ``upscale`` border pixels cropped.

    Args:
        upscaled: The network, or what else upscales.
        sets: Name and folder of each test set.
        upscale: SR factor.
        pictures: Folder for the images that are kept, made as it is needed; None keeps none.

    Returns:
        For each set: mean ``psnr`` in dB, mean ``ssim``, and both for each image under ``images``.
    """
    scores: dict[str, Any] = {}
    for name, folder in sets.items():
        figures: dict[str, dict[str, float]] = {}
        for i, (image, path) in enumerate(_named(find_images(folder)).items()):
            hr = crop_to_multiple(read_bgr(path), upscale)
            output = upscaled(reduce_image(hr, upscale))
            figures[image] = {"psnr": psnr_y(output, hr, upscale), "ssim": ssim_y(output, hr, upscale)}
            if pictures is not None and i < PICTURES:
                _save(output, pictures / name / f"{image}.png")
                _save(hr, pictures / name / f"{image}.hr.png")
        means = {key: statistics.mean(figure[key] for figure in figures.values()) for key in ("psnr", "ssim")}
        scores[name] = {**means, "images": figures}
    return scores


def check_images(folder: str, upscale: int, place: str) -> None:
    """Reads every image of a test set.

    Args:
        folder: The set.
        upscale: SR factor.
        place: Where the set is named, for messages.

    Raises:
        LMBError: If one cannot be read, or is too small for SSIM.
    """
    least = _SSIM_WINDOW + 2 * upscale
    for path in find_images(folder, place):
        height, width = crop_to_multiple(read_bgr(path), upscale).shape[:2]
        if min(height, width) < least:
            raise LMBError(
                f"{place}: {path}: {width} x {height} pixels, cropped to a multiple of {upscale}, are not allowed. "
                f"Allowed: {least} x {least} at least, for SSIM."
            )


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Images by what they are called: the file's name without its ending, where no other has the same."""
    stems = Counter(path.stem for path in paths)
    return {path.stem if stems[path.stem] == 1 else path.name: path for path in paths}


def _save(image: BGRImage, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(path)
