# SPDX-License-Identifier: Apache-2.0
"""The one definition of sign, and the sign with a surrogate gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .surrogates import check_surrogate, surrogate_derivative


def pm1(condition: Tensor, dtype: torch.dtype) -> Tensor:
    """Maps a bool tensor to +1 (true) and -1 (false) of the given dtype."""
    return condition.to(dtype).mul_(2).sub_(1)


def sign_pm1(x: Tensor) -> Tensor:
    """Sign with sign(0) = +1; NaN gives -1.

    Args:
        x: Any shape, floating point.

    Returns:
        Exactly -1 or +1, same shape and dtype.

    Example:
        >>> sign_pm1(torch.tensor([-0.5, 0.0, 2.0]))
        tensor([-1.,  1.,  1.])
    """
    return pm1(x >= 0, x.dtype)


class _SurrogateSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: str, progress: Tensor | None) -> Tensor:
        ctx.save_for_backward(u, progress)
        ctx.surrogate = surrogate
        return sign_pm1(u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        u, progress = ctx.saved_tensors
        return grad * surrogate_derivative(u, ctx.surrogate, progress), None, None


class _TriangleSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(weight, width)
        return sign_pm1(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        weight, width = ctx.saved_tensors
        return grad * (2 / width) * (1 - weight.abs() / width).clamp_(min=0), None


def surrogate_sign(u: Tensor, surrogate: str, progress: Tensor | None = None) -> Tensor:
    """Sign forward, surrogate derivative backward: ``y = sign(u); dy/du := g(u)``.

    Args:
        u: Any shape, floating point.
        surrogate: A name known to :func:`surrogate_derivative`.
        progress: As there.

    Returns:
        Exactly -1 or +1, same shape and dtype. Differentiable once.

    Raises:
        LMBError: If ``surrogate`` is unknown.
    """
    return _SurrogateSign.apply(u, check_surrogate(surrogate), progress)  # type: ignore[no-untyped-call]


def triangle_sign(weight: Tensor, width: Tensor) -> Tensor:
    r"""Sign of weights with the triangle as derivative: ``dy/dw := (2/t) max(0, 1 - |w|/t)``.

    Args:
        weight: ``(O, I, Kh, Kw)``, floating point.
        width: t, broadcastable to ``weight``, positive; see :func:`triangle_width`.

    Returns:
        Exactly -1 or +1, shape and dtype of ``weight``. Differentiable once; no gradient reaches ``width``.

    Source:
        This project's choice; t = 1 and t = 0.5 are the triangles of BTM (AAAI 2021, figure 3 c and d).
    """
    return _TriangleSign.apply(weight, width)  # type: ignore[no-untyped-call]
