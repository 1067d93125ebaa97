# SPDX-License-Identifier: Apache-2.0
"""Trial runs of an option file's losses and metrics on small images, before hours of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from lmb_quant.errors import LMBError

_METRICS = ("calculate_psnr", "calculate_ssim")
_T = TypeVar("_T")


def try_loss(place: str, loss: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Makes a loss of pixels and applies it.

    Args:
        place: Where it stands in the option file, for messages.
        loss: Its class.
        options: The arguments of the class.

    Raises:
        LMBError: If it cannot be made, fails, or does not give one finite number.
    """
    image = torch.rand(1, 3, 8, 8)
    found = _attempt(place, lambda: loss(**options)(image, image.flip(-1)))
    if not isinstance(found, torch.Tensor) or found.ndim or not found.isfinite():
        raise LMBError(f"{place}: with these arguments it gives no single finite number. Is reduction 'mean' or 'sum'?")


def try_metric(place: str, metric: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Applies PSNR or SSIM; what other metrics need of an image is their own affair.

    Args:
        place: Where it stands in the option file, for messages.
        metric: The function.
        options: Its arguments beside the two images.

    Raises:
        LMBError: If an argument is not allowed, or it fails.
    """
    if getattr(metric, "__name__", "") not in _METRICS:
        return
    border = options.get("crop_border", 0)
    if isinstance(border, bool) or not isinstance(border, int) or border < 0:
        raise LMBError(f"{place}.crop_border: {border!r} is not allowed. Allowed: a whole number of pixels, 0 or more.")
    side = 2 * border + 16  # SSIM's window has 11 pixels
    shape = (3, side, side) if options.get("input_order") == "CHW" else (side, side, 3)
    image = np.zeros(shape, np.uint8)
    _attempt(place, lambda: metric(image, image, **options))


def _attempt(place: str, function: Callable[[], _T]) -> _T:
    try:
        return function()
    except LMBError:
        raise
    except Exception as error:  # hosts raise anything on odd values
        raise LMBError(f"{place}: it fails with these arguments: {type(error).__name__}: {error}") from error
