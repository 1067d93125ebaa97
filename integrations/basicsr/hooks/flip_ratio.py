# SPDX-License-Identifier: Apache-2.0
"""Logs how many binary weights change their sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lmb_quant.errors import LMBError
from lmb_quant.modules import binary_convs

from ._base import Hook

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class FlipRatio(Hook):
    """Logs ``flip_ratio``: the fraction of binary weights whose sign differs from that at the previous log.

    Args:
        every: Iterations between two logs; by default ``logger: print_freq``.
    """

    def __init__(self, *, every: int | None = None) -> None:
        if every is not None and (not every >= 1 or every % 1):
            raise LMBError(f"every: {every!r} is not allowed. Allowed: iterations, a whole number, 1 or more.")
        self.every = every
        self._signs: list[Tensor] = []

    def before_train(self, model: LMBModel) -> None:
        """Remembers the signs at the start.

        Raises:
            LMBError: If the network has no binary layer.
        """
        self.every = self.every or int(model.opt["logger"]["print_freq"])
        self._signs = self._current(model)
        if not self._signs:
            raise LMBError("train.hooks: FlipRatio: the network has no binary convolution.")

    def after_step(self, model: LMBModel, it: int) -> None:
        """Logs at every ``every``-th iteration."""
        assert self.every is not None
        if it % self.every:
            return
        signs = self._current(model)
        flipped = sum(int((new != old.to(new.device)).sum()) for new, old in zip(signs, self._signs, strict=True))
        model.extra_log["flip_ratio"] = flipped / sum(sign.numel() for sign in signs)
        self._signs = signs

    def state_dict(self) -> dict[str, Any]:
        """The signs at the previous log."""
        return {"signs": [sign.cpu() for sign in self._signs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over the signs."""
        self._signs = state["signs"]

    @staticmethod
    def _current(model: LMBModel) -> list[Tensor]:
        with torch.no_grad():
            return [conv.weight >= 0 for conv in binary_convs(model.bare_net)]
