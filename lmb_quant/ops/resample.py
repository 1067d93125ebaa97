# SPDX-License-Identifier: Apache-2.0
"""Bilinear and bicubic upscaling by a whole factor, the same at every position; and with detail added."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lmb_quant.errors import LMBError

from ._library import find

_REACH = 2  # pixels that bicubic upscaling looks at on each side
_A = -0.75  # of the cubic, as in PyTorch


def upscale_image(x: Tensor, upscale: int, mode: str) -> Tensor:
    """Upscales as ``F.interpolate`` with ``align_corners=False``; part of an image as in the whole, to the bit.

    In float32, PyTorch's weights depend on the position where ``1 / upscale`` is no binary fraction: by rounding, but
    that decides bits, so that a tile would not give what the whole image gives. Here they do not. With several threads
    bilinear results at factors 2 and 4 may still differ in the last bit.

    Args:
        x: ``(N, C, H, W)``, floating point.
        upscale: Whole factor, at least 1.
        mode: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        ``(N, C, upscale H, upscale W)``, dtype of ``x``.

    Example:
        >>> upscale_image(torch.tensor([[[[0.0, 3.0]]]]), 3, "bilinear")[0, 0, 0]
        tensor([0., 0., 1., 2., 3., 3.])
    """
    if upscale & (upscale - 1) == 0:
        return F.interpolate(x, scale_factor=upscale, mode=mode, align_corners=False)
    rows = [_weights((phase + 0.5) / upscale - 0.5, mode) for phase in range(upscale)]
    for dim in (2, 3):
        size = x.shape[dim]
        padded = F.pad(x, (0, 0, _REACH, _REACH) if dim == 2 else (_REACH, _REACH, 0, 0), mode="replicate")
        phases = [_sum([w * padded.narrow(dim, i, size) for i, w in enumerate(row) if w]) for row in rows]
        x = torch.stack(phases, dim + 1).flatten(dim, dim + 1)
    return x


def upscale_with_detail(x: Tensor, detail: Tensor, upscale: int, alpha: float) -> Tensor:
    """``x`` upscaled bilinearly, plus ``alpha`` times the pixel shuffle of ``detail``, for inference.

    In one sweep by the engine where it can: float32 on the CPU, nothing compiled or exported; else by PyTorch. Both
    equal ``upscale_image(x, upscale, "bilinear") + alpha * F.pixel_shuffle(detail, upscale)`` to float32 rounding.

    Args:
        x: ``(N, C, H, W)``, floating point.
        detail: ``(N, C upscale^2, H, W)``, dtype of ``x``; best channels-last.
        upscale: Whole factor, at least 1.
        alpha: Finite.

    Returns:
        ``(N, C, upscale H, upscale W)``, dtype of ``x``. Without gradient where the engine made it.
    """
    fits = x.dtype == detail.dtype == torch.float32 and x.is_cpu and detail.is_cpu and upscale in (2, 3, 4)
    if fits and x.numel() and not torch.compiler.is_compiling() and find()[0] is not None:
        return torch.ops.lmb_quant.upscale_with_detail(x, detail, upscale, alpha)
    return upscale_image(x, upscale, "bilinear").add_(F.pixel_shuffle(detail, upscale), alpha=alpha)


@torch.library.custom_op("lmb_quant::upscale_with_detail", mutates_args=())
def _by_engine(x: Tensor, detail: Tensor, upscale: int, alpha: float) -> Tensor:
    library = find()[0]
    assert library is not None
    n, c, height, width = x.shape
    if detail.shape != (n, c * upscale**2, height, width):
        raise LMBError(
            f"detail: shape {tuple(detail.shape)} is not allowed. Allowed: ({n}, {c * upscale**2}, H, W) of x."
        )
    out = x.new_empty((n, c, upscale * height, upscale * width))
    image, places = x.contiguous(), detail.contiguous(memory_format=torch.channels_last)
    sizes, threads = (n, c, height, width, upscale), torch.get_num_threads()
    status = library.c.lmbq_upscale_with_detail(
        image.data_ptr(), places.data_ptr(), out.data_ptr(), *sizes, alpha, threads
    )
    library.check(status, "upscaling with detail")
    return out


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _weights(position: float, mode: str) -> list[float]:
    """Weights of the pixels -2 to 2 for a point at ``position``, in (-1/2, 1/2), pixels."""
    base = math.floor(position)
    kernel = _cubic if mode == "bicubic" else _linear
    taps = range(base - 1, base + 3)
    return [kernel(abs(position - pixel)) if pixel in taps else 0.0 for pixel in range(-_REACH, _REACH + 1)]


def _linear(distance: float) -> float:
    return max(0.0, 1 - distance)


def _cubic(distance: float) -> float:
    if distance <= 1:
        return ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    return ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
