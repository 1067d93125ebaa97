# SPDX-License-Identifier: Apache-2.0
"""What a file says about its pixels, and is kept: colour profile, EXIF, XMP, resolution, a PNG file's colour chunks."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_CHUNKS = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
_SRGB = bytes((1, 13, 0, 1))  # a cICP chunk that says what is assumed anyway
_PNG_XMP = "XML:com.adobe.xmp"
# Tags of TIFF that say how the pixels lie in the file, or have a place of their own (XMP, IPTC, Photoshop, ICC).
_LAYOUT_TAGS = {*range(254, 269), *range(273, 282), *range(284, 296), *range(317, 533), 700, 33723, 34377, 34675}
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_TIFF_XMP, _TIFF_ICC = 700, 34675
_INCHES = {2: 1.0, 3: 2.54}  # resolution unit of a TIFF file -> what makes pixels an inch of it
_ICC_SPACES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB ", "CMYK": b"CMYK"}


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is kept of a file; None or empty where it had none.

    ``exif`` holds its directories as dicts; it has no orientation, no thumbnail, and no tag that depends on how the
    file held its pixels. ``dpi`` is pixels an inch, across and down. ``chunks`` are the colour chunks of a PNG file,
    name and contents.
    """

    icc: bytes | None = None
    exif: Image.Exif = field(default_factory=Image.Exif)
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    def resized(self, width: int, height: int) -> Metadata:
        """The metadata of an image of another size: the dimensions in EXIF and XMP follow."""
        exif = _copy(self.exif)
        details = exif.get(ExifTags.IFD.Exif)
        if details is not None:
            for tag, value in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
                if tag in details:
                    details[tag] = value
        xmp = self.xmp
        if xmp is not None:
            for names, value in ((b"tiff:ImageWidth|exif:PixelXDimension", width),
                                 (b"tiff:ImageLength|exif:PixelYDimension", height)):  # fmt: skip
                xmp = re.sub(rb"((?:%b)(?:=[\"']|>))\d+" % names, rb"\g<1>%d" % value, xmp)
        return replace(self, exif=exif, xmp=xmp)

    def options(self, form: str) -> dict[str, Any]:
        """Arguments of Pillow's ``save`` for a format."""
        exif = Image.Exif()
        exif.update({tag: _as_read(value) for tag, value in self.exif.items()})
        options: dict[str, Any] = {"icc_profile": self.icc}
        if form == "TIFF":
            options["tiffinfo"] = dict(exif) if self.xmp is None else {**exif, _TIFF_XMP: self.xmp}
        elif len(exif):
            options["exif"] = exif.tobytes()
        if form == "TIFF" and any(tag in exif for tag in _DIRECTORIES):
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


_WORDS = {"icc": "colour profile", "chunks": "PNG colour chunks", "dpi": "resolution", "xmp": "XMP", "exif": "EXIF"}


def read_metadata(
    source: Image.Exif, info: Mapping[Any, Any], size: tuple[int, int]
) -> tuple[Metadata, int, tuple[str, ...]]:
    """Reads the metadata of an open image; what is damaged is left out.

    Args:
        source: Its EXIF, or the tags of a TIFF file.
        info: What Pillow found beside it.
        size: Width and height, pixels, as in the file.

    Returns:
        The metadata; by which EXIF orientation, 1 to 8, the pixels are still to be turned; what was left out, in words.
    """
    lost: list[str] = []

    def attempt(word: str, read: Callable[[], Any], default: Any) -> Any:
        try:
            return read()
        except Exception:  # damaged metadata makes parsers raise nearly anything
            lost.append(f"{word} (damaged)")
            return default

    orientation = attempt("EXIF", lambda: source.get(ExifTags.Base.Orientation, 1), 1)
    exif = Image.Exif() if lost else attempt("EXIF", lambda: _kept_tags(source), Image.Exif())
    description = exif.get(ExifTags.Base.ImageDescription)
    if isinstance(description, str) and not Counter(map(str, size)) - Counter(re.findall(r"\d+", description)):
        del exif[ExifTags.Base.ImageDescription]
        lost.append("EXIF ImageDescription (it gives the old size)")
    metadata = Metadata(
        icc=attempt("colour profile", lambda: _bytes(info.get("icc_profile") or source.get(_TIFF_ICC)), None),
        exif=exif,
        xmp=attempt("XMP", lambda: _xmp(info, source), None),
        dpi=attempt("resolution", lambda: _dpi(info, source), None),
    )
    return metadata, orientation if orientation in range(1, 9) else 1, tuple(dict.fromkeys(lost))


def fitted(metadata: Metadata, form: str, layout: str, works: Callable[[Metadata], bool]) -> tuple[Metadata, list[str]]:
    """What of the metadata a file can hold.

    Args:
        metadata: All of it.
        form: Name of the format.
        layout: What is written: L, LA, RGB, RGBA or CMYK.
        works: Whether a small file with some metadata can be written and read again.

    Returns:
        What is kept, and what is dropped, in words.
    """
    dropped = []
    space = b"RGB " if form == "WEBP" else _ICC_SPACES[layout]  # WebP has no gray
    if metadata.icc is not None and metadata.icc[16:20] != space:
        word = metadata.icc[16:20].decode("ascii", "replace").strip()
        dropped.append(f"colour profile (of {word}, the pixels are {space.decode().strip()})")
        metadata = replace(metadata, icc=None)
    if form != "PNG" and metadata.chunks:
        names = _telling(metadata)
        if names:
            dropped.append(f"PNG colour chunks {', '.join(names)} ({form} holds none)")
        metadata = replace(metadata, chunks=())
    if works(metadata):
        return metadata, dropped
    kept = Metadata()
    for name, word in _WORDS.items():
        value = getattr(metadata, name)
        if not value or works(replace(kept, **{name: value})):
            kept = replace(kept, **{name: value})
        elif name == "exif":
            exif, tags = _working_tags(value, lambda exif, base=kept: works(replace(base, exif=exif)))  # type: ignore[misc]
            kept = replace(kept, exif=exif)
            dropped.append(f"EXIF {', '.join(tags)}" if len(exif) else "EXIF")
        else:
            dropped.append(word)
    return kept, dropped


def _telling(metadata: Metadata) -> list[str]:
    """Colour chunks without which the pixels look different."""
    chunks = dict(metadata.chunks)
    names = [b"cICP"] if chunks.get(b"cICP", _SRGB) != _SRGB else []
    if b"sRGB" not in chunks and metadata.icc is None:
        names += [name for name in (b"gAMA", b"cHRM") if name in chunks]
    return [name.decode() for name in names]


def _kept_tags(source: Image.Exif) -> Image.Exif:
    """A copy whose directories are dicts, as ``Exif.tobytes`` takes them."""
    exif = Image.Exif()
    for tag, value in source.items():
        if tag in _DIRECTORIES:
            value = {key: item for key, item in source.get_ifd(tag).items() if key != ExifTags.IFD.Interop}
        if tag == ExifTags.Base.ResolutionUnit and value not in (1, 2, 3):
            continue
        if tag not in _LAYOUT_TAGS and value not in (None, {}):
            exif[tag] = value
    return exif


class _Text(str):
    """Text of a tag. Pillow reads each byte as a character, and would write those beyond ASCII as question marks."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return super().encode("latin-1")


def _as_read(value: Any) -> Any:
    """A tag's value, or a directory, as it is to be written: each text as the bytes that it was read from."""
    if isinstance(value, dict):
        return {key: _as_read(item) for key, item in value.items()}
    return _Text(value) if isinstance(value, str) else value


def _copy(exif: Image.Exif) -> Image.Exif:
    copy = Image.Exif()
    for tag, value in exif.items():
        copy[tag] = dict(value) if isinstance(value, dict) else value
    return copy


def _working_tags(exif: Image.Exif, works: Callable[[Image.Exif], bool]) -> tuple[Image.Exif, list[str]]:
    """The tags that can be written, and the names of the others."""
    kept, dropped = Image.Exif(), []
    for tag, value in exif.items():
        trial = _copy(kept)
        trial[tag] = value
        if works(trial):
            kept = trial
        else:
            dropped.append(ExifTags.TAGS.get(tag, str(tag)))
    return kept, dropped


def _bytes(value: Any) -> bytes | None:
    if value is None or len(value) == 0:
        return None
    return value.encode() if isinstance(value, str) else bytes(value)


def _xmp(info: Mapping[Any, Any], source: Image.Exif) -> bytes | None:
    xmp = _bytes(info.get("xmp") or info.get(_PNG_XMP) or source.get(_TIFF_XMP))
    return None if xmp is None else re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


def _dpi(info: Mapping[Any, Any], source: Image.Exif) -> tuple[float, float] | None:
    dpi = info.get("dpi")
    if dpi is None and 282 in source and source.get(296, 2) in _INCHES:
        dpi = [float(source[tag]) * _INCHES[source.get(296, 2)] for tag in (282, 283)]
    if dpi is None:
        return None
    across, down = float(dpi[0]), float(dpi[1])
    return (across, down) if all(math.isfinite(value) and value > 0 for value in (across, down)) else None


def colour_chunks(file: BinaryIO) -> tuple[tuple[bytes, bytes], ...]:
    """The colour chunks of a PNG file."""
    return tuple((name, data) for name, data in png_chunks(file) if name in _COLOUR_CHUNKS)


def png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each chunk of a PNG file before its pixels, the header left out."""
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        data = file.read(int.from_bytes(head[:4], "big"))
        file.seek(4, 1)
        if head[4:] != b"IHDR":
            yield head[4:], data
