# SPDX-License-Identifier: Apache-2.0
"""PNG files, compressed in bands by several threads; ISO/IEC 15948."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from isal import isal_zlib as fast_zlib  # several times as fast as zlib at the same size
except ImportError:  # no build for this machine
    import zlib as fast_zlib  # type: ignore[no-redef]

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> IHDR
_BAND = 4 << 20  # bytes: bands are compressed on their own, each begins without a history
_CHUNK = 1 << 30
_UP = 2


def encode_png(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], chunks: Iterable[tuple[bytes, bytes]] = (), *, small: bool = False
) -> bytes:
    """A PNG file.

    Args:
        pixels: ``(H, W, C)``, C = 1 to 4: gray, gray and alpha, RGB, RGBA.
        chunks: Name and contents of each chunk between the header and the pixels.
        small: Whether time is spent to make it small: zlib's level 9, for each row the filter whose result has the
            least absolute sum (section 12.7 of the specification), in place of level 1 and differences of rows.
    """
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"), copy=False)).view(np.uint8)
    rows = rows.reshape(height, -1)
    count = max(1, _BAND // rows.shape[1])
    starts = range(0, height, count)

    def band(start: int) -> tuple[bytes, int, int]:
        above = rows[start - 1] if start else np.zeros_like(rows[0])
        data = _filtered(rows[start : start + count], above, channels * depth // 8, small)
        coder: Any = (
            zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
            if small
            else fast_zlib.compressobj(1, zlib.DEFLATED, -15)
        )
        last = start + count >= height
        packed = coder.compress(data) + coder.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
        return packed, zlib.adler32(data.data), data.size

    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
        bands = list(pool.map(band, starts))
    checksum = 1
    for _, part, length in bands:
        checksum = _adler32_of_both(checksum, part, length)
    stream = b"".join([b"\x78\x01", *(packed for packed, _, _ in bands), checksum.to_bytes(4, "big")])
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, _COLOUR_TYPES[channels], 0, 0, 0))
    pieces = [(b"IHDR", header), *chunks]
    pieces += [(b"IDAT", stream[start : start + _CHUNK]) for start in range(0, len(stream), _CHUNK)]
    return b"".join([b"\x89PNG\r\n\x1a\n", *(_chunk(*piece) for piece in [*pieces, (b"IEND", b"")])])


def _chunk(name: bytes, data: bytes) -> bytes:
    return b"".join([len(data).to_bytes(4, "big"), name, data, zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big")])


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int, small: bool) -> NDArray[np.uint8]:
    """Rows as they are compressed, a filter's number before each; ``step`` is the bytes of a pixel."""
    up = np.vstack([above[None], rows[:-1]])
    result = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    if not small:
        result[:, 0] = _UP
        np.subtract(rows, up, out=result[:, 1:])
        return result.reshape(-1)
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, step:], corner[:, step:] = rows[:, :-step], up[:, :-step]
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    paeth = a + b - c
    near_a, near_b, near_c = np.abs(paeth - a), np.abs(paeth - b), np.abs(paeth - c)
    nearest = np.where((near_a <= near_b) & (near_a <= near_c), left, np.where(near_b <= near_c, up, corner))
    predictions = (np.zeros_like(rows), left, up, ((a + b) // 2).astype(np.uint8), nearest)
    best = np.full(rows.shape[0], np.iinfo(np.int64).max)
    for kind, prediction in enumerate(predictions):
        residue = rows - prediction
        total = np.abs(residue.view(np.int8).astype(np.int16)).sum(1, dtype=np.int64)
        better = total < best
        best[better], result[better, 0] = total[better], kind
        result[better, 1:] = residue[better]
    return result.reshape(-1)


def _adler32_of_both(first: int, second: int, length: int) -> int:
    """Adler-32 (RFC 1950) of data one after the other, of which the second has ``length`` bytes."""
    base = 65521
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + ((first & 0xFFFF) - 1) * length
    return (high % base) << 16 | low % base
