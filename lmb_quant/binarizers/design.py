# SPDX-License-Identifier: Apache-2.0
"""Activations against a fixed pattern of thresholds that repeats over the image: DeSign."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops import check_surrogate, surrogate_sign

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer

UNITS = ("absolute", "deviation")
BAYER = ((-1.15, 0.32), (1.15, -0.32))
"""The 1/8, 5/8, 7/8, 3/8 quantiles of a normal distribution, in the order of a 2 x 2 Bayer matrix."""


@activation_binarizer(
    "design",
    source="DeSign, arXiv 2405.02220 (periodic threshold kernel); the kernel's entries are this project's choice",
    # One row of the image reads the kernel's first row: T = (-1, 1/2, -1, 1/2)
    golden=Golden(
        x=(-1.25, 0.25, -1.0, 1.0),
        y=(-1.0, -1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, 1.0, 2.0),
        grad_x=(1.5, 1.5, 2.0, 2.0),
        options={"kernel": [[-1.0, 0.5], [1.0, -0.5]], "unit": "absolute"},
    ),
)
class DeSign(ActivationBinarizer):
    """``y = sign(x - T)``, ``T[y, x] = kernel[y mod m, x mod n]``, the same for all channels; ``dy/dx := g(x - T)``.

    There is no packed form: its thresholds are numbers per channel, not per pixel.

    Args:
        kernel: m rows of n thresholds. The default is this project's choice, the ordered dither of two levels' worth
            of a normal distribution; the paper's kernels were found by search and are not printed as numbers.
        unit: ``absolute``, or ``deviation``: T is multiplied by the standard deviation of each map (no gradient flows
            through it). The paper scales the entries to what batch norm makes; a network with a full-precision path
            has no such fixed distribution.
        surrogate: g.

    Raises:
        LMBError: If the kernel is not a rectangle of finite numbers, or a name is unknown.
    """

    kernel: Tensor

    def __init__(
        self, *, kernel: list[list[float]] | None = None, unit: str = "deviation", surrogate: str = "approx_sign"
    ) -> None:
        super().__init__()
        rows = [list(row) for row in (BAYER if kernel is None else kernel)]
        widths = {len(row) for row in rows}
        if len(widths) != 1 or widths == {0} or not all(math.isfinite(t) for row in rows for t in row):
            raise LMBError(f"kernel: {kernel!r} is not allowed. Allowed: rows of equally many finite numbers.")
        if unit not in UNITS:
            raise LMBError(unknown_name("unit", unit, UNITS))
        self.rows, self.unit, self.surrogate = rows, unit, check_surrogate(surrogate)
        self.register_buffer("kernel", torch.tensor(rows), persistent=False)
        self.additions_per_value = 2 if unit == "deviation" else 0

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        height, width = x.shape[2:]
        m, n = self.kernel.shape
        threshold = self.kernel.to(x.dtype).repeat(-(-height // m), -(-width // n))[:height, :width]
        if self.unit == "deviation":
            deviation = x.detach().float().std(dim=(2, 3), keepdim=True, correction=0).to(x.dtype)
            threshold = threshold * deviation
        return surrogate_sign(x - threshold, self.surrogate, self.progress)

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this binariser again."""
        return {"kernel": self.rows, "unit": self.unit, "surrogate": self.surrogate}
