# SPDX-License-Identifier: Apache-2.0
"""What each file format holds, and which are read and written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmb_quant.errors import LMBError


@dataclass(frozen=True)
class Format:
    """A file format, by Pillow's name; what it holds, and how it is written.

    ``layouts`` as in :func:`lmb_quant.upscaling.colour.upscale_as`, ``bits`` of a channel, ``side`` at most, pixels.
    ``options`` are those of Pillow's ``save``, ``small`` what is added for small files.
    """

    name: str
    layouts: tuple[str, ...]
    bits: tuple[int, ...] = (8,)
    side: int = (1 << 31) - 1
    options: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=dict)


_PNG = Format("PNG", ("L", "LA", "RGB", "RGBA"), (8, 16))
_JPEG = Format(
    "JPEG",
    ("L", "RGB", "CMYK"),
    side=65500,
    options={"quality": 95, "subsampling": 0},
    small={"optimize": True, "progressive": True},
)
_WEBP = Format(
    "WEBP",
    ("L", "LA", "RGB", "RGBA"),
    side=16383,
    options={"quality": 95, "exact": True, "method": 2},
    small={"method": 6},
)
_TIFF = Format("TIFF", (*_PNG.layouts, "CMYK"), (8, 16), options={"compression": "tiff_adobe_deflate"})
FORMATS = {
    ".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".jpe": _JPEG, ".jfif": _JPEG, ".webp": _WEBP, ".tif": _TIFF,
    ".tiff": _TIFF,
}  # fmt: skip
"""Extension -> format, of files that are read and written."""

READ_ONLY = {".bmp": "BMP", ".dib": "DIB", ".gif": "GIF", ".avif": "AVIF"}
"""Extension -> Pillow's name, of files that are only read."""

READ_NAMES = (*dict.fromkeys(form.name for form in FORMATS.values()), *READ_ONLY.values())
READ_ENDINGS = (*FORMATS, *READ_ONLY)


def format_of(path: Path) -> Format:
    """The format that a path's extension names, to write it.

    Raises:
        LMBError: If there is none.
    """
    if path.suffix.lower() not in FORMATS:
        raise LMBError(f"{path}: extension {path.suffix!r} is not allowed. Allowed: {', '.join(FORMATS)}.")
    return FORMATS[path.suffix.lower()]


def check_fits(path: Path, layout: str, bits: int, width: int, height: int) -> None:
    """Checks that a file can hold an image, before it is computed.

    Raises:
        LMBError: If it cannot.
    """
    form = format_of(path)
    if layout not in form.layouts or bits not in form.bits:
        able = [end for end, other in FORMATS.items() if layout in other.layouts and bits in other.bits]
        raise LMBError(f"{path}: {form.name} holds no {layout} of {bits} bits. Allowed: {', '.join(able)}.")
    if max(width, height) > form.side:
        raise LMBError(f"{path}: {form.name} holds no {width} x {height} pixels. Allowed: {form.side} a side.")
