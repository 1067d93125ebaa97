# SPDX-License-Identifier: Apache-2.0
"""Where networks are weak, in pictures: the images with the least gain, each where the first network errs most."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from tqdm import tqdm

from lmb_quant.contact_sheet import Tile, contact_sheet
from lmb_quant.errors import LMBError
from lmb_quant.files import check_new
from lmb_quant.integrations.basicsr.degradation import Degradation
from lmb_quant.integrations.basicsr.images import BGRImage, crop_to_multiple, find_images, read_bgr, reduce_image
from lmb_quant.integrations.basicsr.metrics import psnr_y, upscale_bicubic
from lmb_quant.photographs import HELD_OUT, TRAINING, shipped_photograph
from lmb_quant.table import render
from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.formats import format_of
from lmb_quant.upscaling.image_file import ImageFile
from lmb_quant.upscaling.metadata import Metadata
from lmb_quant.upscaling.writing import write_image

PART = 96
"""Side of the part of an image that is shown, HR pixels."""

_SHOWN, _STEP = 224, 8


@dataclass(frozen=True)
class Compared:
    """An image and what was made of its reduction.

    ``psnr`` is in dB on Y, by method: bicubic first, then each network. ``tiles`` show the part where the first network
    errs most: HR, then each method with its PSNR of the whole image.
    """

    name: str
    psnr: dict[str, float]
    tiles: list[Tile]

    @property
    def gain(self) -> float:
        """PSNR of the first network above bicubic, dB."""
        bicubic, first, *_ = self.psnr.values()
        return first - bicubic


def compare(
    networks: Mapping[str, Upscaler],
    images: Path | None,
    output: Path,
    *,
    rows: int = 3,
    degradation: Degradation = Degradation(),  # noqa: B008 - it is frozen
    force: bool = False,
) -> str:
    """Draws where networks are weak.

    Args:
        networks: Of one SR factor, by name.
        images: Folder of HR images; None for the photographs that come with scikit-image.
        output: The picture to write; its ending says the format, one of those of :func:`format_of`.
        rows: Images to draw, those with the least gain of the first network over bicubic.
        degradation: What damages the LR images; by default nothing.
        force: Whether an existing picture is replaced.

    Returns:
        A table of PSNR on Y of all images.

    Raises:
        LMBError: If the networks differ in their factor, an image is too small, or the picture cannot be written.
    """
    if len({network.upscale for network in networks.values()}) != 1:
        factors = ", ".join(f"{name} x{network.upscale}" for name, network in networks.items())
        raise LMBError(f"bench pictures: {factors}: they differ in their factor. Allowed: networks of one factor.")
    format_of(output)
    check_new(output, force=force)
    shipped = [shipped_photograph(name) for name in (*TRAINING, *HELD_OUT)] if images is None else []
    paths = tqdm(
        shipped or find_images(str(images), "--images"), desc="Upscaling", unit="image", disable=None, leave=False
    )
    found = [_compare_one(path, networks, degradation, number) for number, path in enumerate(paths)]
    found.sort(key=lambda compared: compared.gain)
    sheet = contact_sheet([compared.tiles for compared in found[:rows]], _SHOWN)
    write_image(output, ImageFile(sheet, Metadata()), small=True)
    return _table(found, ["bicubic", *networks])


def worst_part(image: BGRImage, reference: BGRImage, side: int) -> tuple[int, int]:
    """Finds the square where an image differs most from its reference, by the squared error.

    Args:
        image: ``(H, W, 3)``, uint8.
        reference: The same shape.
        side: Of the square, pixels; at most H and W.

    Returns:
        Its first row and its first column.
    """
    error = ((image.astype(np.float64) - reference) ** 2).sum(-1)
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    parts = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(parts[::_STEP, ::_STEP].argmax(), parts[::_STEP, ::_STEP].shape)
    return int(top) * _STEP, int(left) * _STEP


def _compare_one(path: Path, networks: Mapping[str, Upscaler], degradation: Degradation, number: int) -> Compared:
    factor = next(iter(networks.values())).upscale
    hr = crop_to_multiple(read_bgr(path), factor)
    if min(hr.shape[:2]) < PART:
        raise LMBError(f"{path}: {hr.shape[1]} x {hr.shape[0]} pixels is too small. Allowed: {PART} x {PART} at least.")
    lr = degradation(reduce_image(hr, factor), Random(number))
    outputs = {"bicubic": upscale_bicubic(lr, factor)}
    for name, network in networks.items():
        outputs[name] = network(np.ascontiguousarray(lr[..., ::-1]))[..., ::-1]
    psnr = {name: psnr_y(image, hr, factor) for name, image in outputs.items()}
    top, left = worst_part(outputs[next(iter(networks))], hr, PART)
    shown = {path.stem: hr} | {f"{name} {psnr[name]:.2f} dB": image for name, image in outputs.items()}
    # copies, so that the images themselves are not kept
    tiles = [Tile(label, image[top : top + PART, left : left + PART, ::-1].copy()) for label, image in shown.items()]
    return Compared(path.stem, psnr, tiles)


def _table(found: Sequence[Compared], methods: Sequence[str]) -> str:
    rows = [(compared.name, *(f"{compared.psnr[method]:.2f}" for method in methods)) for compared in found]
    means = [statistics.mean(compared.psnr[method] for compared in found) for method in methods]
    rows.append(("mean", *(f"{mean:.2f}" for mean in means)))
    return render(
        "PSNR on Y, dB; the least gain of the first network comes first", ("image", *methods), rows,
        right=range(1, len(methods) + 1),
    )  # fmt: skip
