# SPDX-License-Identifier: Apache-2.0
"""Pieces that the architectures share."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.rewrite import RecipeLike, binarize

UPSCALES = (2, 3, 4)


def check_upscale(upscale: int, least: int = UPSCALES[0]) -> int:
    """Returns the SR factor if the architecture has it.

    Raises:
        LMBError: If it is none of ``least`` to 4.
    """
    allowed = range(least, UPSCALES[-1] + 1)
    if upscale not in allowed or not isinstance(upscale, int) or isinstance(upscale, bool):
        raise LMBError(f"upscale: {upscale!r} is not allowed. Allowed: {', '.join(map(str, allowed))}.")
    return upscale


def check_count(name: str, value: Any) -> int:
    """Returns a positive whole number.

    Raises:
        LMBError: If it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LMBError(f"{name}: {value!r} is not allowed. Allowed: a whole number above 0.")
    return value


def check_channels(num_in_ch: Any, num_out_ch: Any) -> int:
    """Returns the image's channels, which the upscaled input and the result have in common.

    Raises:
        LMBError: If they are no positive whole number, or differ.
    """
    if check_count("num_out_ch", num_out_ch) != check_count("num_in_ch", num_in_ch):
        raise LMBError(f"num_out_ch: {num_out_ch!r} is not allowed. Allowed: num_in_ch, {num_in_ch!r}.")
    return int(num_in_ch)


def check_range(img_range: Any) -> float:
    """Returns the factor that scales the input.

    Raises:
        LMBError: If it is not a finite number above 0.
    """
    number = isinstance(img_range, int | float) and not isinstance(img_range, bool)
    if not number or not 0 < img_range < math.inf:
        raise LMBError(f"img_range: {img_range!r} is not allowed. Allowed: a finite number above 0.")
    return float(img_range)


def apply_conv(conv: nn.Module, x: Tensor, overwrite: bool) -> Tensor:
    """Convolution; with ``overwrite`` a packed one may put its result in the place of ``x``."""
    return conv(x, overwrite=True) if overwrite and isinstance(conv, PackedBinaryConv2d) else conv(x)


def conv_act(conv: nn.Module, x: Tensor, act: nn.Module, overwrite: bool) -> Tensor:
    """Convolution, then ``act``, unless the convolution is a binary one that brings its own activation function."""
    y = apply_conv(conv, x, overwrite)
    return y if isinstance(conv, (BinaryConv2d, PackedBinaryConv2d)) and conv.replaces_act else act(y)


def has_skip(conv: nn.Module) -> bool:
    """Whether a convolution is a binary one that adds its input to its output."""
    return isinstance(conv, (BinaryConv2d, PackedBinaryConv2d)) and conv.has_skip


def convs_of(module: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a module, in order."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def zero_(*parameters: Tensor | None) -> None:
    """Fills parameters with zeros; None is a bias that a convolution does not have."""
    for parameter in parameters:
        if parameter is not None:
            nn.init.zeros_(parameter)


def apply_recipe(model: nn.Module, recipe: RecipeLike | None) -> None:
    """Binarises a network under construction; ``None`` leaves it float."""
    if recipe is not None:
        binarize(model, recipe)
