# SPDX-License-Identifier: Apache-2.0
"""HR images from folders and their LR versions, decoded and reduced once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from lmb_quant.errors import LMBError, named_reason
from lmb_quant.files import entries, expanded, files_ending, is_folder

from basicsr.utils.matlab_functions import imresize

BGRImage = NDArray[np.uint8]
"""uint8 ``(H, W, 3)``, channels blue, green, red, as OpenCV and BasicSR have them."""

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def find_images(folders: str | Sequence[str], argument: str = "dataroot_gt") -> list[Path]:
    """Lists the image files of one folder or several, each folder's sorted by name. Sub-folders are not searched.

    Args:
        folders: The folders.
        argument: What the user calls them, for messages.

    Raises:
        LMBError: If a folder does not exist or holds no image.
    """
    found: list[Path] = []
    for folder in [folders] if isinstance(folders, str) else folders:
        path = expanded(folder)
        if not is_folder(path):
            raise LMBError(f"{argument}: {str(folder)!r} is not a folder (looked for {path.absolute()}).")
        images = files_ending(path, EXTENSIONS)
        if not images:
            inner = [sub.name for sub in entries(path) if os.path.isdir(sub) and files_ending(sub, EXTENSIONS)]
            hint = f" Its folders do: {', '.join(inner)}; a list of folders is allowed." if inner else ""
            raise LMBError(f"{argument}: {str(folder)!r} holds no image ({', '.join(EXTENSIONS)}).{hint}")
        found += images
    return found


def read_bgr(path: Path) -> BGRImage:
    """Reads an image as BGR, ``(H, W, 3)``, uint8; gray is replicated, transparency dropped, the EXIF turn applied.

    Raises:
        LMBError: If the file cannot be read in full, or holds more than 8 bits per channel.
    """
    try:
        with Image.open(path) as image:
            deep = any(";16" in str(tile) for tile in getattr(image, "tile", ()))  # 16-bit RGB opens as mode RGB
            if image.mode not in _MODES or deep:
                raise LMBError(f"{path}: pixels of kind {image.mode!r} are not allowed. Allowed: 8 bits per channel.")
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except LMBError:
        raise
    except Exception as error:  # Pillow raises anything on a damaged file, of its EXIF too
        raise LMBError(f"{path}: cannot be read as an image: {named_reason(error)}.") from None
    return np.ascontiguousarray(rgb[..., ::-1])


def crop_to_multiple(image: BGRImage, upscale: int) -> BGRImage:
    """Crops ``(H, W, C)`` at the bottom and the right so that H and W are multiples of ``upscale``."""
    height, width = image.shape[:2]
    return image[: height - height % upscale, : width - width % upscale]


def reduce_image(image: BGRImage, upscale: int) -> BGRImage:
    """Reduces ``(H, W, C)``, H and W multiples of ``upscale``, as MATLAB's bicubic imresize does; rounded to uint8."""
    small = imresize(image.astype(np.float32) / 255.0, 1 / upscale)
    return np.ascontiguousarray((small.clip(0, 1) * 255.0).round().astype(np.uint8))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Imresize is thousands of tiny operations, which several threads only slow down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ImageStore:
    """HR images of a list of files, and LR ones of each SR factor.

    Every file is decoded once, so a bad one is found at the start. LR images are kept in memory, and HR images as long
    as they fit into the budget; the others are decoded on each use.

    Args:
        paths: The HR files.
        upscales: SR factors: HR is cropped to a multiple of all.
        min_size: Least HR height and width after the crop, in pixels.
        skip_small: Whether smaller images are left out; otherwise they are an error.
        budget: Bytes of HR pixels to keep.

    Raises:
        LMBError: If a file cannot be read or is too small; names it. If all are left out.
    """

    def __init__(
        self, paths: Sequence[Path], *, upscales: Sequence[int], min_size: int, skip_small: bool, budget: int
    ) -> None:
        self.paths: list[Path] = []
        self.multiple = math.lcm(*upscales)
        self._hr: list[BGRImage | None] = []
        self._lr: dict[int, list[BGRImage]] = {upscale: [] for upscale in upscales}
        self.kept_bytes = 0
        with _one_thread():
            self._read(paths, min_size=min_size, skip_small=skip_small, budget=budget)
        if not self.paths:
            raise LMBError(f"dataroot_gt: all {len(paths)} images are smaller than {min_size} x {min_size}.")

    def _read(self, paths: Sequence[Path], *, min_size: int, skip_small: bool, budget: int) -> None:
        for path in tqdm(paths, desc="Reading images", unit="image", disable=None, leave=False):
            hr = crop_to_multiple(read_bgr(path), self.multiple)
            if min(hr.shape[:2]) < min_size:
                if skip_small:
                    continue
                height, width = hr.shape[:2]
                raise LMBError(
                    f"{path}: {width} x {height} pixels (cropped to a multiple of {self.multiple}) is too small. "
                    f"Allowed: at least {min_size} x {min_size}. Remove it, lower gt_size, or set skip_small: true."
                )
            self.paths.append(path)
            for upscale, lr in self._lr.items():
                lr.append(reduce_image(hr, upscale))
            keep = self.kept_bytes + hr.nbytes <= budget
            self._hr.append(np.ascontiguousarray(hr) if keep else None)
            self.kept_bytes += hr.nbytes if keep else 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def left_out(self) -> int:
        """HR images that did not fit into the budget."""
        return sum(hr is None for hr in self._hr)

    @property
    def shortest_side(self) -> int:
        """Pixels of the shortest side of all HR images."""
        upscale, images = next(iter(self._lr.items()))
        return min(upscale * min(lr.shape[:2]) for lr in images)

    def pair(self, index: int, upscale: int) -> tuple[BGRImage, BGRImage]:
        """Returns HR ``(H, W, 3)`` and LR ``(H / upscale, W / upscale, 3)``, BGR, uint8; not to be written to."""
        hr = self._hr[index]
        if hr is None:
            hr = crop_to_multiple(read_bgr(self.paths[index]), self.multiple)
        return hr, self._lr[upscale][index]


def open_store(
    paths: Sequence[Path], *, upscales: Sequence[int], min_size: int, skip_small: bool, budget: int
) -> ImageStore:
    """Returns the :class:`ImageStore` of unchanged files read before in this process, or reads them."""
    files = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    return _open_store(files, tuple(upscales), min_size, skip_small, budget)


@lru_cache(maxsize=16)
def _open_store(
    files: tuple[tuple[Path, int, int], ...], upscales: tuple[int, ...], min_size: int, skip_small: bool, budget: int
) -> ImageStore:
    paths = [path for path, _, _ in files]
    return ImageStore(paths, upscales=upscales, min_size=min_size, skip_small=skip_small, budget=budget)
