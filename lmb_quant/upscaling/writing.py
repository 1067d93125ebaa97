# SPDX-License-Identifier: Apache-2.0
"""Image files, written with 8 or 16 bits a channel and what of their metadata they can hold."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lmb_quant.files import write_atomically

from .formats import Format, format_of
from .image_file import ImageFile
from .metadata import Metadata, fitted, png_chunks
from .png import encode_png


def write_image(path: Path, file: ImageFile, *, small: bool = False) -> Sequence[str]:
    """Writes an image in the format of the path's extension; an existing file is replaced once the new is complete.

    Args:
        path: The file.
        file: The image; the dimensions in its metadata are set to its own.
        small: Whether time is spent to make the file small; no more is lost.

    Returns:
        What of the metadata could not be written, in words.

    Raises:
        LMBError: If the extension is not allowed, or the file cannot be written.
        Exception: What the codec raises if it cannot encode the pixels.
    """
    form = format_of(path)
    metadata, dropped = _held(file, form)
    write_atomically(path, _encode(file, form, metadata, small), durable=False)
    return dropped


def _held(file: ImageFile, form: Format) -> tuple[Metadata, list[str]]:
    """What of the metadata the format's codec writes and reads again, tried with one pixel."""
    shape = (1, 1, len(file.layout))
    array = np.zeros(shape, np.uint8 if file.bits == 8 else np.uint16)
    pixel = array if file.layout != "CMYK" else Image.new("CMYK", (1, 1))

    def works(metadata: Metadata) -> bool:
        try:
            data = _encode(ImageFile(pixel, metadata), form, metadata, small=False)
            if form.name != "TIFF" or file.bits == 8:
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
                    image.getexif().get_ifd(0x8769)
        except Exception:  # codecs raise nearly anything
            return False
        return True

    return fitted(file.metadata.resized(*file.size), form.name, file.layout, works)


def _encode(file: ImageFile, form: Format, metadata: Metadata, small: bool) -> bytes:
    pixels, buffer = file.pixels, io.BytesIO()
    if form.name == "PNG":
        array = np.atleast_3d(np.asarray(pixels))
        return encode_png(array, _metadata_chunks(metadata), small=small)
    if file.bits == 16:
        _write_tiff(buffer, file, metadata, small)
        return buffer.getvalue()
    if not isinstance(pixels, Image.Image):
        pixels = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    options = {**form.options, **(form.small if small else {}), **metadata.options(form.name)}
    pixels.save(buffer, form.name, **options)
    return buffer.getvalue()


def _metadata_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """The chunks that Pillow writes for the metadata."""
    model = io.BytesIO()
    Image.new("L", (1, 1)).save(model, "PNG", **metadata.options("PNG"))
    return list(png_chunks(model))


def _write_tiff(buffer: io.BytesIO, file: ImageFile, metadata: Metadata, small: bool) -> None:
    """A 16-bit TIFF file; of the EXIF, it keeps the tags that are text."""
    import tifffile  # seldom needed

    array = np.asarray(file.pixels)
    channels = array.shape[2]
    tags: list[tuple[Any, ...]] = [
        (tag, "s", 0, value.encode("latin-1"), True) for tag, value in metadata.exif.items() if isinstance(value, str)
    ]
    if metadata.xmp is not None:
        tags.append((700, "B", len(metadata.xmp), metadata.xmp, True))
    tifffile.imwrite(
        buffer,
        array[..., 0] if channels == 1 else array,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        compressionargs={"level": 9 if small else 1},
        predictor=True,
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        extratags=tags,
        metadata=None,
        software=False,
    )
