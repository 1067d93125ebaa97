# SPDX-License-Identifier: Apache-2.0
"""Heights and widths of what convolutions give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


def padding_of(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Zero padding of a convolution in pixels, also of one that names it in a word: top, left, bottom, right."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    return top, left, bottom, right


def output_sides(
    sides: Sequence[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Any, ...]:
    """Height and width of the output for an input of height and width ``sides``, which may be symbolic.

    ``padding`` is that of :func:`padding_of`.
    """
    top, left, bottom, right = padding
    return tuple(
        (side + ends - d * (k - 1) - 1) // s + 1
        for side, ends, k, s, d in zip(sides, (top + bottom, left + right), kernel_size, stride, dilation, strict=True)
    )


def keeps_sides(
    kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether the output has the height and width of the input, whatever they are."""
    top, left, bottom, right = padding
    reach = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    return all(s == 1 for s in stride) and [top + bottom, left + right] == reach
