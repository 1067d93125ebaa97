# SPDX-License-Identifier: Apache-2.0
"""NumPy arrays, PIL images and tensors as one kind of picture, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lmb_quant.errors import LMBError

from .colour import LAYOUTS, with_visible_colours

_PEAKS = {"uint8": 255, "uint16": 65535}
_DTYPES = {255: torch.uint8, 65535: torch.uint16}
# What each mode of Pillow becomes; P and others with a transparent colour become RGBA or LA.
_MODES = {
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA",
    "RGBa": "RGBA", "CMYK": "CMYK", "I;16": "I;16", "I;16L": "I;16", "I;16B": "I;16", "I;16N": "I;16",
}  # fmt: skip
_KEPT = ("icc_profile", "exif", "xmp", "dpi")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as the network sees it.

    ``size`` is ``(N, C, H, W)``, ``pixels`` an image's ``(H, W, C)``, None for a tensor. ``layout`` as in
    :func:`lmb_quant.upscaling.colour.upscale_as`. ``peak`` is an integer image's largest value, None for a tensor.
    ``restore`` makes the caller's kind of ``(N, C, H', W')``, whose dtype is ``dtype``.
    """

    size: tuple[int, ...]
    pixels: NDArray[Any] | None
    make_values: Callable[[], Tensor]
    layout: str
    peak: int | None
    restore: Callable[[Tensor], Any]

    @functools.cached_property
    def values(self) -> Tensor:
        """``(N, C, H, W)``: [0, 1] in float32, or the tensor that was given."""
        return self.make_values()

    @property
    def dtype(self) -> torch.dtype:
        """Of the result before it is restored."""
        return self.values.dtype if self.peak is None else _DTYPES[self.peak]

    def finished(self, values: Tensor) -> Tensor:
        """Values in [0, 1] as :attr:`dtype`: cut to the range and rounded to the nearest; a tensor's as they are."""
        return values if self.peak is None else (values * self.peak).round_().clamp_(0, self.peak).to(self.dtype)


def picture_of(image: Any, channels: int) -> Picture:
    """Makes a picture for a network of ``channels``.

    Raises:
        LMBError: If shape, dtype or mode are not allowed, a value is not finite, or the network cannot take it.
    """
    if isinstance(image, Image.Image):
        picture = _of_pil(image)
    elif isinstance(image, np.ndarray):
        picture = _of_array(image)
    elif isinstance(image, Tensor):
        picture = _of_tensor(image, channels)
    else:
        kind = type(image).__name__
        raise LMBError(f"image: {kind} is not allowed. Allowed: a NumPy array, a PIL image, a tensor.")
    if picture.layout and channels not in (1, 3):
        raise LMBError(f"model: it takes {channels} channels. Allowed for this image: 1 or 3.")
    return picture


def plain_mode(image: Image.Image) -> Image.Image:
    """A PIL image in a mode whose channels are what they seem: L, LA, RGB, RGBA, CMYK or I;16.

    Raises:
        LMBError: If there is none without loss.
    """
    mode = _MODES.get(image.mode)
    if mode is None:
        hint = "Use convert('RGB')."
        if image.mode.startswith(("I", "F")):  # convert() would cut them to white or black
            hint = "Its values have no fixed range: scale them into a NumPy array of uint8 or uint16."
        raise LMBError(f"image: mode {image.mode!r} is not allowed. Allowed: {', '.join(_MODES)}. {hint}")
    if image.has_transparency_data and mode in ("L", "RGB"):
        mode += "A"
    return image if image.mode == mode or mode == "I;16" else image.convert(mode)


def _of_array(array: NDArray[Any]) -> Picture:
    peak = _PEAKS.get(array.dtype.name)
    if peak is None:
        raise LMBError(f"image: dtype {array.dtype} is not allowed. Allowed: {', '.join(_PEAKS)}; floats as a tensor.")
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in LAYOUTS or 0 in pixels.shape:
        raise LMBError(f"image: shape {array.shape} is not allowed. Allowed: (H, W), (H, W, 1 to 4), not empty.")
    return _of_pixels(pixels, LAYOUTS[pixels.shape[2]], peak, lambda new: new if array.ndim == 3 else new[..., 0])


def _of_pil(image: Image.Image) -> Picture:
    plain = plain_mode(image)
    pixels = np.atleast_3d(np.asarray(plain))
    if 0 in pixels.shape:
        raise LMBError(f"image: size {image.size} is not allowed. Allowed: not empty.")
    mode = plain.mode

    def restore(new: NDArray[Any]) -> Image.Image:
        word = "I;16" if new.dtype == np.uint16 else mode
        result = Image.frombytes(word, (new.shape[1], new.shape[0]), new.tobytes())
        result.info = {key: image.info[key] for key in _KEPT if key in image.info}
        return result

    deep = pixels.dtype.itemsize == 2
    return _of_pixels(pixels, "L" if deep else mode, 65535 if deep else 255, restore)


def _of_pixels(pixels: NDArray[Any], layout: str, peak: int, restore: Callable[[NDArray[Any]], Any]) -> Picture:
    if layout in ("RGB", "RGBA") and _is_gray(pixels):
        return _of_gray(pixels, layout, peak, restore)

    def values() -> Tensor:
        found = torch.from_numpy(pixels.astype(np.float32)).div_(peak).permute(2, 0, 1)[None]
        return with_visible_colours(found) if layout in ("LA", "RGBA") else found

    height, width, channels = pixels.shape
    return Picture(
        (1, channels, height, width),
        pixels,
        values,
        layout,
        peak,
        lambda new: restore(new[0].permute(1, 2, 0).contiguous().numpy()),
    )


def _is_gray(pixels: NDArray[Any]) -> bool:
    """Whether RGB or RGBA pixels, as far as they are seen, have no colour."""
    gray = (pixels[..., 0] == pixels[..., 1]) & (pixels[..., 0] == pixels[..., 2])
    return bool((gray | (pixels[..., 3] == 0)).all() if pixels.shape[2] == 4 else gray.all())


def _of_gray(pixels: NDArray[Any], layout: str, peak: int, restore: Callable[[NDArray[Any]], Any]) -> Picture:
    """Gray that is stored as colour: run as gray, so that no tint comes in, and stored as colour again."""
    alpha = range(3, pixels.shape[2])
    order = [0, 0, 0, *(1 for _ in alpha)]

    def as_colour(new: NDArray[Any]) -> Any:
        return restore(np.ascontiguousarray(new[..., order]))

    return _of_pixels(pixels[..., [0, *alpha]], layout.replace("RGB", "L"), peak, as_colour)


def _of_tensor(image: Tensor, channels: int) -> Picture:
    shape = tuple(image.shape)
    if image.ndim not in (3, 4) or 0 in shape:
        raise LMBError(f"image: shape {shape} is not allowed. Allowed: (C, H, W) or (N, C, H, W), not empty.")
    if not image.is_floating_point():
        raise LMBError(f"image: dtype {image.dtype} is not allowed in a tensor. Allowed: floating point, [0, 1].")
    count = shape[-3]
    if count != channels and count not in LAYOUTS:
        raise LMBError(f"image: {count} channels are not allowed. Allowed: {channels} or 1 to 4.")
    if not bool(torch.isfinite(image).all()):
        raise LMBError("image: it has NaN or infinities. Allowed: finite values.")
    values = image.detach() if image.ndim == 4 else image.detach()[None]
    layout = "" if count == channels else LAYOUTS[count]
    values = with_visible_colours(values) if layout in ("LA", "RGBA") else values
    return Picture(
        tuple(values.shape), None, lambda: values, layout, None, lambda new: new if image.ndim == 4 else new[0]
    )
