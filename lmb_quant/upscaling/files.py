# SPDX-License-Identifier: Apache-2.0
"""Image files, read and written with 8 or 16 bits a channel and their metadata."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lmb_quant.errors import LMBError

from .colour import LAYOUTS
from .formats import format_of
from .images import plain_mode
from .metadata import Metadata, metadata_of, png_chunks

Pixels = Image.Image | NDArray[np.uint16]
"""8 bits: a PIL image of mode L, LA, RGB, RGBA or CMYK. 16 bits, which Pillow has for gray only: an array (H, W, C)."""

_READ = ("PNG", "JPEG", "WEBP", "TIFF")
_HEADER_END = 33  # of a PNG file: signature and IHDR
_BITS_PER_SAMPLE = 258  # tag of a TIFF file


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The upright pixels of a file, and its metadata."""

    pixels: Pixels
    metadata: Metadata

    @property
    def layout(self) -> str:
        """L, LA, RGB, RGBA or CMYK."""
        return self.pixels.mode if isinstance(self.pixels, Image.Image) else LAYOUTS[self.pixels.shape[2]]

    @property
    def bits(self) -> int:
        """Bits of a channel."""
        return 8 if isinstance(self.pixels, Image.Image) else 16

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]


def read_image(path: Path) -> ImageFile:
    """Reads an image, turned as its EXIF orientation says; the orientation is then no longer in the metadata.

    Raises:
        LMBError: If it cannot be read in full, is animated or has several pages, is larger than Pillow's limit against
            decompression bombs, or has pixels of another kind than those of :data:`Pixels`.
    """
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_READ) as image:
            warnings.simplefilter("ignore")  # damaged metadata; the pixels decide
            return _read(path, image)
    except LMBError as error:
        raise LMBError(f"{path}: {error}") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LMBError(f"{path}: it cannot be read as {', '.join(_READ)}: {reason}") from None


def write_image(path: Path, file: ImageFile) -> None:
    """Writes an image in the format of the path's extension; an existing file is replaced once the new is complete.

    Raises:
        LMBError: If the extension is not allowed.
        OSError: If it cannot be written.
    """
    form = format_of(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        if isinstance(file.pixels, Image.Image):
            options = file.metadata.options(form.name, *file.size)
            file.pixels.save(partial, form.name, **{**form.options, **options})
        elif form.name == "PNG":
            partial.write_bytes(_png(file.pixels, file.metadata))
        else:
            _write_tiff(partial, file.pixels, file.metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path, image: Image.Image) -> ImageFile:
    width, height = image.size
    if width * height > (Image.MAX_IMAGE_PIXELS or width * height):
        limit = Image.MAX_IMAGE_PIXELS
        raise LMBError(f"{width} x {height} pixels are not allowed. Allowed: {limit:,}, against decompression bombs.")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a photograph and its preview or depth
        raise LMBError(f"it is animated or has pages: {image.n_frames}. Allowed: one image.")  # type: ignore[attr-defined]
    if _is_deep(image):
        metadata, orientation = metadata_of(image, path)
        return ImageFile(_turned(_deep_pixels(path, image), orientation), metadata)
    image.load()  # TIFF: turns the pixels and drops the orientation
    metadata, _ = metadata_of(image, path)
    upright = plain_mode(ImageOps.exif_transpose(image))
    plain = Image.frombytes(upright.mode, upright.size, upright.tobytes())  # without what save() would take from info
    return ImageFile(plain, metadata)


def _is_deep(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return 16 in image.tag_v2.get(_BITS_PER_SAMPLE, ())  # type: ignore[attr-defined]
    return image.mode.startswith("I;16") or any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _deep_pixels(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    """16-bit pixels, ``(H, W, C)``, of an image that Pillow has looked at."""
    import imagecodecs  # many codecs, and seldom needed
    import tifffile

    if image.format == "PNG" and "transparency" not in image.info:
        array = imagecodecs.png_decode(path.read_bytes())
    elif image.format == "TIFF":
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            photometric = tifffile.PHOTOMETRIC(page.photometric).name
            alpha = page.extrasamples in ((), (tifffile.EXTRASAMPLE.UNASSALPHA,))
            whole = page.dtype == np.uint16 and page.bitspersample == 16
            if photometric not in ("MINISBLACK", "RGB") or not whole or not alpha:
                found = f"{photometric} of {page.bitspersample} bits with {page.extrasamples} beside"
                allowed = "8 bits; gray or RGB of 16 bits, with alpha that is not multiplied in"
                raise LMBError(f"pixels {found} are not allowed. Allowed: {allowed}.")
            array = page.asarray()
            if array.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                array = np.moveaxis(array, 0, -1)
    else:
        raise LMBError("16 bits with one transparent colour are not allowed. Allowed: an alpha channel.")
    return np.asarray(array[..., None] if array.ndim == 2 else array, dtype=np.uint16)


def _turned(array: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Turns ``(H, W, C)`` upright from an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    left = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if down else 1, :: -1 if left else 1])


def _png(array: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """A 16-bit PNG file with the metadata chunks that Pillow writes into one of 8 bits."""
    import imagecodecs  # many codecs, and seldom needed

    height, width, _ = array.shape
    plain, model = imagecodecs.png_encode(array[..., 0] if array.shape[2] == 1 else array), io.BytesIO()
    Image.new("L", (1, 1)).save(model, "PNG", **metadata.options("PNG", width, height))
    chunks = [
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        for name, data in png_chunks(model)
    ]
    return b"".join([plain[:_HEADER_END], *chunks, plain[_HEADER_END:]])


def _write_tiff(path: Path, array: NDArray[np.uint16], metadata: Metadata) -> None:
    """A 16-bit TIFF file; of the EXIF, it keeps the tags that are text."""
    import tifffile  # seldom needed

    channels = array.shape[2]
    tags: list[tuple[Any, ...]] = [(t, "s", 0, v, True) for t, v in metadata.exif.items() if isinstance(v, str)]
    if metadata.xmp is not None:
        tags.append((700, "B", len(metadata.xmp), metadata.xmp, True))
    tifffile.imwrite(
        path,
        array[..., 0] if channels == 1 else array,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        predictor=True,
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        extratags=tags,
        metadata=None,
        software=False,
    )
