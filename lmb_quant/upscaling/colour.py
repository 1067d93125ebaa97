# SPDX-License-Identifier: Apache-2.0
"""Gray, colour, inks and transparency through a network of one or three channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lmb_quant.ops.resample import upscale_image

LAYOUTS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Channels of an image -> their meaning, in Pillow's words."""

BICUBIC_REACH = 2
"""LR pixels that bicubic upscaling looks at on each side."""

_VISIBLE = 1 / 1024  # less opacity is rounded to none
_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, [16/255, 235/255]: what networks of one channel learn
_LUMA_RANGE = 219 / 255


def upscale_as(x: Tensor, layout: str, network: Callable[[Tensor], Tensor], channels: int, upscale: int) -> Tensor:
    """Upscales an image, whatever its channels mean, through a network of other channels.

    - gray through three channels: replicated; the mean of the three results.
    - colour through one channel: Y by the network, Cb and Cr bicubic, as VDSR does.
    - transparency: bicubic, so that what is opaque stays opaque. Within the bicubic kernel's reach of hidden pixels
      (fully transparent ones) colours are weighted by their alpha, as in plain upscaling of premultiplied pixels, so
      that no edge is brighter or darker than what is seen beside it.
    - inks (CMYK): the light that C, M and Y leave as colour, what K leaves as gray.

    Args:
        x: ``(N, C, H, W)``, values in [0, 1]; with transparency, what :func:`with_visible_colours` made of them.
        layout: ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK``, or ``""`` where C is the network's.
        network: Maps ``(N, channels, H, W)`` to ``(N, channels, upscale H, upscale W)``.
        channels: 1 or 3, unless the layout is ``""``.
        upscale: SR factor.

    Source:
        VDSR, arXiv 1511.04587, for colour through one channel; the rest is this project's choice.
    """

    def inner(part: Tensor, meaning: str) -> Tensor:
        return upscale_as(part, meaning, network, channels, upscale)

    if layout in ("LA", "RGBA"):
        return _with_transparency(x[:, :-1], x[:, -1:], lambda part: inner(part, layout[:-1]), upscale)
    if layout == "CMYK":
        light = 1 - x
        return 1 - torch.cat([inner(light[:, :3], "RGB"), inner(light[:, 3:], "L")], 1)
    if layout == "L" and channels == 3:
        return network(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    if layout == "RGB" and channels == 1:
        base = upscale_image(x, upscale, "bicubic")
        return base + (network(_luma(x)) - _luma(base)) / _LUMA_RANGE  # Cb and Cr of base; each of R, G, B moves with Y
    return network(x)


def with_visible_colours(x: Tensor) -> Tensor:
    """Gives hidden pixels, whose alpha is 0, the colours of the nearest visible ones; nothing else changes.

    Args:
        x: ``(N, C, H, W)``, the last channel alpha.

    Source:
        Averages over 2 x 2 blocks until each holds something visible (the pull-push of Gortler et al., 1996).
    """
    colour, alpha = x[:, :-1], x[:, -1:]
    hidden = alpha <= 0
    if not bool(hidden.any()) or bool(hidden.all()):
        return x
    weight = alpha.clamp_min(0)
    return torch.cat([torch.where(hidden, _filled(colour * weight, weight), colour), alpha], 1)


def _filled(total: Tensor, weight: Tensor) -> Tensor:
    empty = weight <= 0
    mean = total / weight.masked_fill(empty, 1)
    if not bool(empty.any()) or max(total.shape[-2:]) == 1:
        return mean
    coarse = _filled(*(F.avg_pool2d(part, 2, ceil_mode=True) for part in (total, weight)))
    near = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : total.shape[2], : total.shape[3]]
    return torch.where(empty, near, mean)


def _with_transparency(colour: Tensor, alpha: Tensor, run: Callable[[Tensor], Tensor], upscale: int) -> Tensor:
    large, opacity = run(colour), upscale_image(alpha, upscale, "bicubic")
    side = 2 * BICUBIC_REACH + 1
    near_hidden = F.max_pool2d((alpha <= 0).to(alpha.dtype), side, stride=1, padding=BICUBIC_REACH)
    if bool(near_hidden.any()):
        plain = upscale_image(colour * alpha, upscale, "bicubic") / opacity.clamp_min(_VISIBLE)
        edge = near_hidden.repeat_interleave(upscale, 2).repeat_interleave(upscale, 3) > 0
        large = torch.where(edge & (opacity > _VISIBLE), plain.clamp(0, 1), large)
    return torch.cat([large, opacity], 1)


def _luma(x: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True) + 16 / 255
