# SPDX-License-Identifier: Apache-2.0
"""Image files, read with 8 or 16 bits a channel and their metadata."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lmb_quant.errors import LMBError, reason

from .formats import READ_NAMES
from .image_file import ImageFile
from .images import plain_mode
from .metadata import colour_chunks, read_metadata

MAX_PIXELS = 89_478_485
"""Pixels of a file that are read where nothing else is said: Pillow's limit against decompression bombs."""

_BITS_PER_SAMPLE = 258  # tag of a TIFF file
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GRAY_STEPS = {2: 85, 4: 17}  # bits of a gray PNG file -> what makes 8 bits of its levels
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Reads an image, turned as its EXIF orientation says; the orientation is then no longer in the metadata.

    Decoders may warn of what is damaged; the pixels decide. Pillow's own limit of pixels is the caller's to lift
    where ``max_pixels`` is above it.

    Raises:
        LMBError: If it is no regular file, cannot be read in full, is animated or has several pages, has more than
            ``max_pixels``, or has pixels of another kind than those of :data:`.image_file.Pixels`.
    """
    try:
        _check_regular(path)
        try:
            with Image.open(path, formats=READ_NAMES) as image:
                return _read(path, image, max_pixels)
        except UnidentifiedImageError:
            with path.open("rb") as file:
                if file.read(4) not in _TIFF_SIGNATURES:
                    raise
            return _read_deep_tiff(path, max_pixels)
    except LMBError as error:
        raise LMBError(f"{path}: {error}") from None
    except Image.DecompressionBombError as error:  # only where the caller left Pillow's limit
        raise LMBError(f"{path}: it cannot be read: {error}") from None
    except MemoryError:
        raise LMBError(f"{path}: it cannot be read: there is not enough memory.") from None
    except OSError as error:
        if error.errno is not None:
            raise LMBError(f"{path}: it cannot be read: {error.strerror}.") from None
        raise LMBError(_unreadable(path, error)) from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        raise LMBError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    why = "it is damaged, or of another format" if isinstance(error, UnidentifiedImageError) else reason(error)
    return f"{path}: it cannot be read as {', '.join(READ_NAMES)}: {why}"


def _check_regular(path: Path) -> None:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = next((word for test, word in _KINDS.items() if test(mode)), "no file")
        raise LMBError(f"it cannot be read: it is {kind}. Allowed: a file.")


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise LMBError(
            f"{width} x {height} pixels are not allowed. Allowed: {max_pixels:,}, against decompression bombs; "
            f"--max-pixels {width * height} lifts it."
        )


def _read(path: Path, image: Image.Image, max_pixels: int) -> ImageFile:
    _check_pixels(image.size, max_pixels)
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # a photograph and its preview or depth
        raise LMBError(f"it is animated or has pages: {pages}. Allowed: one image.")
    size = image.size
    if _is_deep(image):
        if image.format != "TIFF" and not (image.format == "PNG" and "transparency" not in image.info):
            raise LMBError("16 bits with one transparent colour are not allowed. Allowed: an alpha channel.")
        metadata, orientation, lost = read_metadata(_exif_of(image), image.info, size)
        pixels = _deep_tiff(path, max_pixels) if image.format == "TIFF" else _deep_png(path)
        file = ImageFile(_turned(pixels, orientation), metadata, lost)
    else:
        image.load()  # TIFF: turns the pixels and drops the orientation
        metadata, orientation, lost = read_metadata(_exif_of(image), image.info, size)
        upright = _plain(path, image)
        if orientation in _TURNS:
            upright = upright.transpose(_TURNS[orientation])
        plain = Image.frombytes(upright.mode, upright.size, upright.tobytes())  # without what save() takes from info
        file = ImageFile(plain, metadata, lost)
    if image.format == "PNG":
        with path.open("rb") as stream:
            file = replace(file, metadata=replace(file.metadata, chunks=colour_chunks(stream)))
    return file


def _exif_of(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # damaged: read_metadata() says so
        return _DamagedExif()


class _DamagedExif(Image.Exif):
    def get(self, *args: object) -> object:
        raise ValueError("damaged")


def _plain(path: Path, image: Image.Image) -> Image.Image:
    """The image in a mode whose channels are what they seem; its transparent gray level, if any, as alpha."""
    level = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in ("1", "L") or not isinstance(level, int):
        return plain_mode(image)
    with path.open("rb") as file:  # Pillow scales pixels to 8 bits, but the level of 1 bit only
        bits = file.read(25)[24]
    gray, hidden = image.convert("L"), level if image.mode == "1" else level * _GRAY_STEPS.get(bits, 1)
    alpha = gray.point([0 if value == hidden else 255 for value in range(256)])
    return Image.merge("LA", (gray, alpha))


def _is_deep(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return 16 in image.tag_v2.get(_BITS_PER_SAMPLE, ())  # type: ignore[attr-defined]
    return image.mode.startswith("I;16") or any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _deep_png(path: Path) -> NDArray[np.uint16]:
    import imagecodecs  # many codecs, and seldom needed

    array = imagecodecs.png_decode(path.read_bytes())
    return np.asarray(array[..., None] if array.ndim == 2 else array, dtype=np.uint16)


def _read_deep_tiff(path: Path, max_pixels: int) -> ImageFile:
    """A TIFF file that Pillow cannot look at: gray with alpha of 16 bits."""
    pixels, tags = _deep_tiff(path, max_pixels), Image.Exif()
    with path.open("rb") as file:
        tags.load_from_fp(file)
        metadata, orientation, lost = read_metadata(tags, {}, (pixels.shape[1], pixels.shape[0]))
    return ImageFile(_turned(pixels, orientation), metadata, lost)


def _deep_tiff(path: Path, max_pixels: int) -> NDArray[np.uint16]:
    """16-bit pixels of a TIFF file, ``(H, W, C)``, as they lie in it."""
    import tifffile  # seldom needed

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        photometric = tifffile.PHOTOMETRIC(page.photometric).name
        alpha = page.extrasamples in ((), (tifffile.EXTRASAMPLE.UNASSALPHA,))
        channels = {"MINISBLACK": 1, "RGB": 3}.get(photometric, 0) + len(page.extrasamples)
        whole = page.dtype == np.uint16 and page.bitspersample == 16 and page.samplesperpixel == channels
        if photometric not in ("MINISBLACK", "RGB") or not whole or not alpha or page.imagedepth != 1:
            found = f"{photometric} of {page.bitspersample} bits with {page.extrasamples} beside"
            allowed = "8 bits; gray or RGB of 16 bits, with alpha that is not multiplied in"
            raise LMBError(f"pixels {found} are not allowed. Allowed: {allowed}.")
        if len(tiff.pages) > 1:
            raise LMBError(f"it is animated or has pages: {len(tiff.pages)}. Allowed: one image.")
        _check_pixels((page.imagewidth, page.imagelength), max_pixels)
        array = page.asarray()
        if array.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            array = np.moveaxis(array, 0, -1)
    return np.asarray(array[..., None] if array.ndim == 2 else array, dtype=np.uint16)


def _turned(array: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Turns ``(H, W, C)`` upright from an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    left = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if down else 1, :: -1 if left else 1])
