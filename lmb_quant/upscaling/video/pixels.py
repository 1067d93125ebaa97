# SPDX-License-Identifier: Apache-2.0
"""Between a video's frames and RGB arrays: matrix, range and bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmb_quant.errors import LMBError

from ._pyav import av

_RGB, _BT709, _UNSPECIFIED, _BT470BG, _SMPTE170M = 0, 1, 2, 5, 6  # of ISO/IEC 23091-2, which FFmpeg counts by
_LIMITED, _FULL = 1, 2  # FFmpeg's AVColorRange
_MATRICES = {_BT709: 1, 4: 4, _BT470BG: 5, _SMPTE170M: 5, 7: 7, 9: 9}
"""Matrix of a stream -> that of FFmpeg's scaler: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020."""

_HD_ROWS = 720  # from here on players take BT.709 where a file does not say
_BILINEAR, _BICUBIC, _ACCURATE, _FULL_CHROMA = 2, 4, 0x40000, 0x2000  # flags of FFmpeg's scaler
_FROM_FILE = _BICUBIC | _ACCURATE | _FULL_CHROMA  # chroma is interpolated, not repeated
_TO_FILE = _BILINEAR  # a tenth of the time for the same values


@dataclass(frozen=True)
class Colour:
    """What a video's numbers mean.

    ``matrix``, ``primaries`` and ``transfer`` as in ISO/IEC 23091-2; ``full`` is whether the numbers use the whole
    range. A matrix is never unspecified: where a file does not say, it is what players take.
    """

    matrix: int
    full: bool
    primaries: int
    transfer: int


def colour_of(frame: av.VideoFrame) -> Colour:
    """What the numbers of a decoded frame mean.

    Raises:
        LMBError: If its matrix is none of BT.601, BT.709, BT.2020, FCC and SMPTE 240M.
    """
    matrix, kind = int(frame.colorspace), frame.format
    if kind.is_rgb or kind.has_palette:
        return Colour(_RGB, True, int(frame.color_primaries), int(frame.color_trc))
    if matrix in (_UNSPECIFIED, _RGB, 3):  # 3 is reserved; RGB is a mistake in a file of Y, Cb and Cr
        small = _SMPTE170M if frame.height <= 480 else _BT470BG
        matrix = _BT709 if frame.height >= _HD_ROWS else small
    if matrix not in _MATRICES:
        raise LMBError(f"matrix {matrix} of ISO/IEC 23091-2 is not known. Allowed: {', '.join(map(str, _MATRICES))}.")
    full = int(frame.color_range) == _FULL or kind.name.startswith("yuvj")
    return Colour(matrix, full, int(frame.color_primaries), int(frame.color_trc))


def bits_of(kind: av.VideoFormat) -> int:
    """Bits of a channel."""
    return max((part.bits for part in kind.components), default=8)


def has_alpha(kind: av.VideoFormat) -> bool:
    """Whether a format has a channel of transparency; a palette may have one."""
    return len(kind.components) in (2, 4) or kind.has_palette


class Reader:
    """Frames as RGB arrays."""

    def __init__(self) -> None:
        self._scaler = av.video.reformatter.VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[Any]:
        """``(H, W, 3)``, RGB: uint8, or uint16 where the video has more than 8 bits; alpha is left out.

        Raises:
            LMBError: As :func:`colour_of`.
        """
        colour = colour_of(frame)
        # Planes for 16 bits: with interpolated chroma FFmpeg's scaler lets the values of rgb48le overflow.
        name = "rgb24" if bits_of(frame.format) <= 8 else "gbrp16le"
        matrix = _MATRICES.get(colour.matrix)
        converted = self._scaler.reformat(
            frame,
            format=name,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_FULL if colour.full else _LIMITED,
            dst_color_range=_FULL,
            interpolation=_FROM_FILE,
            threads=1,
        )
        return converted.to_ndarray()


class Writer:
    """RGB arrays as frames of a format.

    Args:
        kind: FFmpeg's name of the format.
        colour: What the frames' numbers will mean.
    """

    def __init__(self, kind: str, colour: Colour) -> None:
        self.kind, self.colour = kind, colour
        self._scaler = av.video.reformatter.VideoReformatter()

    def __call__(self, pixels: NDArray[Any]) -> av.VideoFrame:
        """A frame without a time stamp of ``(H, W, 3)``, RGB, uint8 or uint16."""
        matrix, full = _MATRICES.get(self.colour.matrix), _FULL if self.colour.full else _LIMITED
        frame = av.VideoFrame.from_numpy_buffer(  # a view, no copy
            np.ascontiguousarray(pixels), format="rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        )
        converted = self._scaler.reformat(
            frame,
            format=self.kind,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_FULL,
            dst_color_range=full,
            interpolation=_TO_FILE,
            threads=1,
        )
        converted.colorspace, converted.color_range = self.colour.matrix, full
        converted.color_primaries, converted.color_trc = self.colour.primaries, self.colour.transfer
        return converted


def writing_format(encoder: str, kind: av.VideoFormat) -> tuple[str, list[str]]:
    """The format of an encoder that loses least of another, alpha left aside; and what it loses, in words."""
    formats = av.codec.Codec(encoder, "w").video_formats or []
    plain = kind.name.replace("yuvj", "yuv")
    able = [one.name for one in formats if one.components and not has_alpha(one) and not one.name.startswith("yuvj")]
    lost = ["transparency"] if has_alpha(kind) and not kind.has_palette else []
    if plain in able:
        return plain, lost
    best, loss = av.codec.codec.find_best_pix_fmt_of_list(able, kind)
    if best is None:
        raise LMBError(f"--codec: {encoder} takes no format that is made of {kind.name}. Allowed: another codec.")
    if bits_of(best) < bits_of(kind):
        lost.append(f"{bits_of(kind)} bits ({bits_of(best)} are)")
    if loss & av.codec.codec.PixFmtLoss.RESOLUTION:
        lost.append(f"chroma of {kind.name} ({best.name})")
    return str(best.name), lost


def writing_colour(colour: Colour, kind: str) -> Colour:
    """What the numbers mean once they are written: RGB as Y, Cb and Cr becomes BT.709 of limited range."""
    rgb = av.VideoFormat(kind).is_rgb
    if colour.matrix == _RGB and not rgb:
        return Colour(_BT709, False, colour.primaries, colour.transfer)
    return Colour(_RGB, True, colour.primaries, colour.transfer) if rgb else colour
