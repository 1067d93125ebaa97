# SPDX-License-Identifier: Apache-2.0
"""What a file says about its pixels, and is kept: colour profile, EXIF, XMP, resolution."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_CHUNKS = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
_PNG_XMP = "XML:com.adobe.xmp"
# Tags of TIFF that say how the pixels lie in the file, or have a place of their own (XMP, IPTC, Photoshop, ICC).
_LAYOUT_TAGS = {*range(254, 269), *range(273, 282), *range(284, 296), *range(317, 533), 700, 33723, 34377, 34675}
_TIFF_XMP = 700


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is kept of a file; None or empty where it had none.

    ``exif`` has no orientation, no thumbnail, and no tag that depends on how the file held its pixels. ``dpi`` is
    pixels an inch, across and down. ``chunks`` are the colour chunks of a PNG file, name and contents.
    """

    icc: bytes | None
    exif: Image.Exif
    xmp: bytes | None
    dpi: tuple[float, float] | None
    chunks: tuple[tuple[bytes, bytes], ...]

    def resized(self, width: int, height: int) -> Image.Exif:
        """The EXIF of an image of another size."""
        exif = Image.Exif()
        exif.load(self.exif.tobytes())
        sub = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, value in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
            if tag in sub:
                sub[tag] = value
        return exif

    def options(self, form: str, width: int, height: int) -> dict[str, Any]:
        """Arguments of Pillow's ``save`` for a format and a size."""
        exif = self.resized(width, height)
        if form == "TIFF" and self.xmp is not None:
            exif[_TIFF_XMP] = self.xmp
        options: dict[str, Any] = {"icc_profile": self.icc}
        if len(exif):
            options["exif"] = exif.tobytes()
        if form == "TIFF" and any(tag in exif for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)):
            options["compression"] = None  # libtiff, which compresses, cannot write these directories
        if self.dpi is not None and form != "WEBP":
            options["dpi"] = self.dpi
        if self.xmp is not None and form in ("JPEG", "WEBP"):
            options["xmp"] = self.xmp
        if form == "PNG":
            options["pnginfo"] = self._png_info()
        return options

    def _png_info(self) -> PngImagePlugin.PngInfo:
        info = PngImagePlugin.PngInfo()
        for name, data in self.chunks:
            info.add(name, data)
        if self.xmp is not None:
            info.add_itxt(_PNG_XMP, self.xmp.decode("utf-8", "replace"))
        return info


def metadata_of(image: Image.Image, path: Path) -> tuple[Metadata, int]:
    """Reads the metadata of an open image, and by which EXIF orientation, 1 to 8, its pixels are still to be turned."""
    source = image.getexif()
    orientation = source.get(ExifTags.Base.Orientation, 1)
    exif = Image.Exif()
    for tag, value in source.items():
        if tag not in _LAYOUT_TAGS:
            exif[tag] = source.get_ifd(tag) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else value
    xmp = image.info.get("xmp") or image.info.get(_PNG_XMP) or source.get(_TIFF_XMP)
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    if xmp is not None:
        xmp = re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)
    dpi = image.info.get("dpi")
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    if image.format == "PNG":
        with path.open("rb") as file:
            chunks = tuple((name, data) for name, data in png_chunks(file) if name in _COLOUR_CHUNKS)
    metadata = Metadata(
        icc=image.info.get("icc_profile"),
        exif=exif,
        xmp=xmp,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        chunks=chunks,
    )
    return metadata, orientation if orientation in range(1, 9) else 1


def png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each chunk of a PNG file before its pixels, the header left out."""
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        data = file.read(int.from_bytes(head[:4], "big"))
        file.seek(4, 1)
        if head[4:] != b"IHDR":
            yield head[4:], data
