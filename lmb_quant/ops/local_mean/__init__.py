# SPDX-License-Identifier: Apache-2.0
"""Local means and the sign against them (LMB, doi 10.1109/TNNLS.2022.3212827)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops.sign import pm1
from lmb_quant.ops.surrogates import check_surrogate, surrogate_derivative

from .reference import TIE_MARGIN

GLOBAL = 0
"""The window that covers the whole frame."""

NORMALIZATIONS = ("none", "map")


def check_window(window: int | str) -> int:
    """Returns the window as a positive odd number of pixels, or :data:`GLOBAL` for ``"global"``.

    Raises:
        LMBError: If it is even, not positive, or neither a number nor ``"global"``.
    """
    if window == "global":
        return GLOBAL
    if isinstance(window, bool) or not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise LMBError(
            f"window: {window!r} is not allowed. Allowed: an odd number of pixels (3, 5, 7, ...) or 'global'."
        )
    return window


def check_normalize(name: str) -> str:
    """Returns ``name`` if it is a normalisation of u.

    Raises:
        LMBError: If it is not.
    """
    if name not in NORMALIZATIONS:
        raise LMBError(unknown_name("normalize", name, NORMALIZATIONS))
    return name


def _sum_along(x: Tensor, window: int, dim: int) -> Tensor:
    size, half = x.shape[dim], window // 2
    padded = F.pad(x, (0, 0, half, half) if dim == 2 else (half, half, 0, 0))
    total = padded.narrow(dim, 0, size)
    for i in range(1, window):
        total = total + padded.narrow(dim, i, size)
    return total


def _count_along(size: int, window: int, like: Tensor) -> Tensor:
    index = torch.arange(size, device=like.device, dtype=like.dtype)
    half = window // 2
    return (index + half).clamp(max=size - 1) - (index - half).clamp(min=0) + 1


def window_sum(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Sums the in-frame pixels of the window x window square centred at each pixel, window by window.

    Args:
        x: ``(N, C, H, W)``, floating point.
        window: Odd, >= 1, pixels.

    Returns:
        The sums, ``(N, C, H, W)``, and the number of pixels in each, ``(H, W)``, both of ``x``'s dtype. Columns are
        added first, top to bottom, then rows, left to right: the order is part of the definition, so that every
        implementation rounds alike.
    """
    total = _sum_along(_sum_along(x, window, 2), window, 3)
    count = _count_along(x.shape[2], window, x)[:, None] * _count_along(x.shape[3], window, x)
    return total, count


def global_mean(x: Tensor) -> Tensor:
    """Mean over the whole frame, accumulated in float64: ``(N, C, H, W)`` to ``(N, C, 1, 1)``, same dtype."""
    return x.double().mean(dim=(2, 3), keepdim=True).to(x.dtype)


def _total_and_count(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    if window == GLOBAL:
        return global_mean(x), x.new_ones(())
    return window_sum(x, window)


def local_mean(x: Tensor, window: int | str) -> Tensor:
    r"""Computes the local mean T: the mean over the window centred at each pixel, in-frame pixels only.

    Args:
        x: ``(N, C, H, W)``, floating point; computed in float32.
        window: Odd number of pixels, or ``"global"`` for the mean of the whole frame.

    Returns:
        ``(N, C, H, W)``, or ``(N, C, 1, 1)`` for ``"global"``; float32. Differentiable.

    Raises:
        LMBError: If ``window`` is not allowed.

    Source:
        LMB, doi 10.1109/TNNLS.2022.3212827 (abstract); the box window is this project's choice.
    """
    total, count = _total_and_count(x.float(), check_window(window))
    return total / count


class Distance(NamedTuple):
    """The distance u of values to their threshold, and what it is made of."""

    u: Tensor
    values: Tensor
    """x, or x - shift."""
    total: Tensor
    """The window's sums, times the gain."""
    pixels: Tensor
    """How many each window has."""
    mean: Tensor | None
    """Without the gain; None where there is none."""


def distance(x: Tensor, window: int, shift: Tensor | None = None, gain: Tensor | None = None) -> Distance:
    """Computes the distance to local means.

    Args:
        x: ``(N, C, H, W)``, float32.
        window: Pixels, or :data:`GLOBAL`.
        shift: ``(C,)``, taken off the values.
        gain: ``(C,)``, times the mean.
    """
    total, count = _total_and_count(x, window)
    mean = None if gain is None else total / count
    if shift is not None:
        x = x - shift.float().view(1, -1, 1, 1)
    if gain is not None:
        total = total * gain.float().view(1, -1, 1, 1)
    return Distance(x - total / count, x, total, count, mean)


def normalized(u: Tensor, name: str) -> Tensor:
    """U as a surrogate gets it: itself, or for ``"map"`` divided by twice its mean magnitude per map."""
    if name == "none":
        return u
    return u / (2 * u.abs().mean(dim=(2, 3), keepdim=True)).clamp(min=torch.finfo(u.dtype).tiny)


class _LocalMeanSign(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shift: Tensor | None,
        gain: Tensor | None,
        window: int,
        surrogate: str,
        detach: bool,
        normalize: str,
        progress: Tensor | None,
    ) -> Tensor:
        u, values, total, count, mean = distance(x.float(), window, shift, gain)
        tau = TIE_MARGIN * (count * values.abs() + total.abs())
        bits = count * values - total >= -tau
        ctx.save_for_backward(u, count, progress, gain, mean)
        ctx.window, ctx.surrogate, ctx.detach, ctx.normalize = window, surrogate, detach, normalize
        return pm1(bits, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, count, progress, gain, mean = ctx.saved_tensors
        through_value = grad.float() * surrogate_derivative(normalized(u, ctx.normalize), ctx.surrogate, progress)
        grad_shift = -through_value.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[1] else None
        grad_gain = -(through_value * mean).sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] else None
        through_mean = through_value if gain is None else through_value * gain.float().view(1, -1, 1, 1)
        if ctx.detach:
            grad_x = through_value
        elif ctx.window == GLOBAL:
            grad_x = through_value - through_mean.mean(dim=(2, 3), keepdim=True)
        else:  # the box sum with zeros outside is its own transpose
            grad_x = through_value - window_sum(through_mean / count, ctx.window)[0]
        return grad_x.to(grad.dtype), grad_shift, grad_gain, None, None, None, None, None


def local_mean_sign(
    x: Tensor,
    window: int | str = 3,
    *,
    shift: Tensor | None = None,
    gain: Tensor | None = None,
    surrogate: str = "approx_sign",
    detach_threshold: bool = False,
    normalize: str = "none",
    progress: Tensor | None = None,
) -> Tensor:
    r"""Compares each value with the mean of the values around it.

    .. math:: B = +1 \text{ if } A - T \ge -\tau \text{ else } -1, \quad \tau = 2^{-18} (|A| + |T|)

    backward, with u = A - T and M the mean: ``dL/dA = G - M^T G``, ``G = dL/dB * g(u)``; with a gain,
    M is a times the mean.

    The margin tau makes flat regions exact ties (+1); without it rounding decides them. Computed in float32 whatever
    the input or autocast says. NaN anywhere in a window, and a value that is itself infinite, give -1; finite values
    with an infinite one in their window give +1.

    Args:
        x: A, ``(N, C, H, W)``, floating point.
        window: Odd number of pixels, or ``"global"``.
        shift: c, ``(C,)``: A - c takes the place of A in the comparison and in u, T stays the mean of A. A
            contrast that a value must have; without it the bits of a flat region with noise are the noise's signs.
        gain: a, ``(C,)``: a T takes the place of T in the comparison and in u. 1 is the local mean, 0 a sign.
        surrogate: g; a name known to :func:`lmb_quant.ops.surrogate_derivative`.
        detach_threshold: Drops the second term of the gradient.
        normalize: ``"none"``, or ``"map"``: g is evaluated at u divided by twice its mean magnitude per map.
        progress: As in :func:`lmb_quant.ops.surrogate_derivative`.

    Returns:
        Exactly -1 or +1, shape and dtype of ``x``. Differentiable once.

    Raises:
        LMBError: If an option is not allowed.

    Source:
        LMB, doi 10.1109/TNNLS.2022.3212827 (abstract). Box window, margin, shift, gain and gradient form are this
        project's choice.
    """
    return _LocalMeanSign.apply(  # type: ignore[no-untyped-call]
        x,
        shift,
        gain,
        check_window(window),
        check_surrogate(surrogate),
        detach_threshold,
        check_normalize(normalize),
        progress,
    )
