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


def _triangle_half(u: Tensor) -> Tensor:
    return (4 - 8 * u.abs()).clamp_(min=0)


def _tanh(u: Tensor) -> Tensor:
    return 1 - torch.tanh(u).square()


def _ede(u: Tensor, progress: Tensor | float) -> Tensor:
    t = 10 ** (4 * torch.as_tensor(progress, dtype=torch.float32, device=u.device) - 3)
    return (t.clamp(min=1) * (1 - torch.tanh(t * u.float()).square())).to(u.dtype)  # k t = max(1/t, 1) t


def _fda(u: Tensor, progress: Tensor | float) -> Tensor:
    terms = torch.round(9 + 9 * torch.as_tensor(progress, dtype=torch.float32, device=u.device)) + 1
    v = u.float().clamp(-1, 1)
    total = 2 * terms * torch.sinc(terms * v) / torch.sinc(v / 2)  # the sum of cosines, closed form
    return torch.where(u.abs() < 1, total, 0).to(u.dtype)


_FIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "ste": _ste,
    "identity": _identity,
    "approx_sign": _approx_sign,
    "triangle_half": _triangle_half,
    "tanh": _tanh,
}
_SCHEDULED: dict[str, Callable[[Tensor, Tensor | float], Tensor]] = {"ede": _ede, "fda": _fda}

SURROGATES = (*_FIXED, *_SCHEDULED)
"""The names of all surrogates."""


def check_surrogate(name: str) -> str:
    """Returns ``name`` if it is a surrogate.

    Raises:
        LMBError: If it is not; the message names the nearest one.
    """
    if name not in SURROGATES:
        raise LMBError(unknown_name("surrogate", name, SURROGATES))
    return name


def surrogate_derivative(u: Tensor, name: str, progress: Tensor | float | None = None) -> Tensor:
    r"""Evaluates the surrogate derivative g(u) of sign(u), elementwise.

    ================= =========================== ==========================================================
    name              g(u)                        source
    ================= =========================== ==========================================================
    ``ste``           1 where \|u\| <= 1          BNN, arXiv 1602.02830, eq. 4
    ``identity``      1                           DoReFa-Net, arXiv 1606.06160, section 2.3
    ``approx_sign``   max(0, 2 - 2\|u\|)          Bi-Real Net, arXiv 1808.00278, eq. 6
    ``triangle_half`` max(0, 4 - 8\|u\|)          BTM, AAAI 2021, figure 3d
    ``tanh``          1 - tanh(u)^2               the derivative of tanh
    ``ede``           k t (1 - tanh(t u)^2)       IR-Net, arXiv 1909.10788: t from 0.001 to 10, k = max(1/t, 1)
    ``fda``           (4 w / pi) sum_{i = 0..n}   FDA-BNN, arXiv 2103.00841: the Fourier series of a square wave of
                      cos((2 i + 1) w u), w = 2   period T, differentiated; n from 9 to 18. This project's choice:
                      pi / T; 0 where \|u\| >= 1  T = 4, g cut to the half period around 0 (it is 0 at its ends)
    ================= =========================== ==========================================================

    ``approx_sign`` and ``triangle_half`` are triangles of area 2 and half-width 1 and 1/2.

    Args:
        u: Any shape, floating point; the distance to the threshold.
        name: A name of the table.
        progress: Fraction of the training that is done, in [0, 1], for the last two: t = 10^(4 progress - 3),
            n = 9 + 9 progress, rounded. None is the start.

    Returns:
        g(u), same shape and dtype. ``ede`` lies in [0, 10], ``fda`` in [-9, 38], the others in [0, 4].

    Raises:
        LMBError: If ``name`` is unknown.
    """
    if check_surrogate(name) in _FIXED:
        return _FIXED[name](u)
    return _SCHEDULED[name](u, 0.0 if progress is None else progress)


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
