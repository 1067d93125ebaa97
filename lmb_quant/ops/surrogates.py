# SPDX-License-Identifier: Apache-2.0
"""Surrogate derivatives of the sign: what the backward pass uses in place of zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name


def _ste(u: Tensor) -> Tensor:
    return (u.abs() <= 1).to(u.dtype)


def _identity(u: Tensor) -> Tensor:
    return torch.ones_like(u)


def _approx_sign(u: Tensor) -> Tensor:
    return (2 - 2 * u.abs()).clamp_(min=0)


def _tanh(u: Tensor) -> Tensor:
    return 1 - torch.tanh(u).square()


SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "ste": _ste,
    "identity": _identity,
    "approx_sign": _approx_sign,
    "tanh": _tanh,
}


def check_surrogate(name: str) -> str:
    """Returns ``name`` if it is a surrogate.

    Raises:
        LMBError: If it is not; the message names the nearest one.
    """
    if name not in SURROGATES:
        raise LMBError(unknown_name("surrogate", name, SURROGATES))
    return name


def surrogate_derivative(u: Tensor, name: str) -> Tensor:
    r"""Evaluates the surrogate derivative g(u) of sign(u), elementwise.

    ============== ======================= ==========================================================
    name           g(u)                    source
    ============== ======================= ==========================================================
    ``ste``        1 where \|u\| <= 1      BNN, arXiv 1602.02830, eq. 4
    ``identity``   1                       DoReFa-Net, arXiv 1606.06160, section 2.3
    ``approx_sign``  max(0, 2 - 2\|u\|)    Bi-Real Net, arXiv 1808.00278, eq. 6
    ``tanh``       1 - tanh(u)^2           the derivative of tanh; EDE of IR-Net at t = k = 1
    ============== ======================= ==========================================================

    Args:
        u: Any shape, floating point; the distance to the threshold.
        name: A key of the table.

    Returns:
        g(u), same shape and dtype, in [0, 2].

    Raises:
        LMBError: If ``name`` is unknown.
    """
    return SURROGATES[check_surrogate(name)](u)


def triangle_width(weight: Tensor, kappa: Tensor | float) -> Tensor:
    r"""Half-width of the adaptive triangle: ``t = kappa * mean|W|``, one per filter.

    Args:
        weight: ``(O, I, Kh, Kw)``, floating point.
        kappa: Positive; large is a wide triangle (many weights are updated), small a narrow one.

    Returns:
        ``(O, 1, 1, 1)``, at least 1e-4, so that the gradient of a filter of zeros stays finite.

    Source:
        This project's choice (docs/concepts.md): only the abstract of LMB was at hand, which says that the gradient of
        the binary weights is approximated adaptively. Fixed widths 1 and 0.5 are those of BTM (AAAI 2021).
    """
    t = kappa * weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
    return t.clamp(min=1e-4)
