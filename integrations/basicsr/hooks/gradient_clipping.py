# SPDX-License-Identifier: Apache-2.0
"""Limits gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from lmb_quant.errors import LMBError

from ._base import Hook
from ._values import positive

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class GradientClipping(Hook):
    """Limits the norm of all gradients together, or each gradient's magnitude; one of the two.

    Args:
        max_norm: Largest L2 norm, above 0.
        max_value: Largest magnitude, above 0.
    """

    def __init__(self, *, max_norm: float | None = None, max_value: float | None = None) -> None:
        if (max_norm is None) == (max_value is None):
            raise LMBError(f"max_norm: {max_norm!r}, max_value: {max_value!r}: give one of the two.")
        self.max_norm = None if max_norm is None else positive("max_norm", max_norm)
        self.max_value = None if max_value is None else positive("max_value", max_value)

    def after_backward(self, model: LMBModel, it: int) -> None:
        """Clips."""
        if self.max_norm is not None:
            clip_grad_norm_(model.bare_net.parameters(), self.max_norm)
        elif self.max_value is not None:
            clip_grad_value_(model.bare_net.parameters(), self.max_value)
