# SPDX-License-Identifier: Apache-2.0
"""Gray, colour, inks and transparency through a network of one or three channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lmb_quant.ops.enlarge import enlarge

LAYOUTS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Channels of an image -> their meaning, in Pillow's words."""

BICUBIC_REACH = 2
"""LR pixels that the bicubic enlargement looks at on each side."""

_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, [16/255, 235/255]: what networks of one channel learn
_LUMA_RANGE = 219 / 255


def enlarge_as(x: Tensor, layout: str, network: Callable[[Tensor], Tensor], channels: int, upscale: int) -> Tensor:
    """Enlarges an image, whatever its channels mean, through a network of other channels.

    - gray through three channels: replicated; the mean of the three results.
    - colour through one channel: Y by the network, Cb and Cr bicubic, as VDSR does.
    - transparency: bicubic, so that what is opaque stays opaque.
    - inks (CMYK): the light that C, M and Y leave as colour, what K leaves as gray.

    Args:
        x: ``(N, C, H, W)``, values in [0, 1].
        layout: ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK``, or ``""`` where C is the network's.
        network: Maps ``(N, channels, H, W)`` to ``(N, channels, upscale H, upscale W)``.
        channels: 1 or 3, unless the layout is ``""``.
        upscale: SR factor.

    Source:
        VDSR, arXiv 1511.04587, for colour through one channel; the rest is this project's choice.
    """

    def inner(part: Tensor, meaning: str) -> Tensor:
        return enlarge_as(part, meaning, network, channels, upscale)

    if layout in ("LA", "RGBA"):
        return torch.cat([inner(x[:, :-1], layout[:-1]), enlarge(x[:, -1:], upscale, "bicubic")], 1)
    if layout == "CMYK":
        light = 1 - x
        return 1 - torch.cat([inner(light[:, :3], "RGB"), inner(light[:, 3:], "L")], 1)
    if layout == "L" and channels == 3:
        return network(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    if layout == "RGB" and channels == 1:
        base = enlarge(x, upscale, "bicubic")
        return base + (network(_luma(x)) - _luma(base)) / _LUMA_RANGE  # Cb and Cr of base; each of R, G, B moves with Y
    return network(x)


def _luma(x: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True) + 16 / 255
