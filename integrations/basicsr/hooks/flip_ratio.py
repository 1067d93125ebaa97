# SPDX-License-Identifier: Apache-2.0
"""Logs how many binary weights change their sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.modules import binary_convs

from ._base import Hook
from ._values import iterations

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class FlipRatio(Hook):
    """Logs ``flip_ratio``: the fraction of binary weights whose sign differs from that at the previous log.

    Args:
        every: Iterations between two logs; by default ``logger: print_freq``.
    """

    def __init__(self, *, every: int | None = None) -> None:
        self.every = None if every is None else iterations("every", every)
        self._signs: list[Tensor] = []

    def check(self, opt: dict[str, Any], net: nn.Module, image: Tensor | None) -> None:
        """Raises LMBError if the network has no binary layer, or one whose binary weights are not -1 and +1."""
        if not any(binary_convs(net)):
            raise LMBError("the network has no binary convolution.")
        for conv in binary_convs(net):
            if not conv.binarize_weight.is_pm1:
                raise LMBError(
                    f"weight binarizer {conv.config.weight!r} is not allowed: its values are not -1 and +1. Allowed: "
                    "networks whose binary weights have signs."
                )

    def before_train(self, model: LMBModel) -> None:
        """Remembers the signs at the start."""
        self.every = self.every or int(model.opt["logger"]["print_freq"])
        self._signs = self._current(model)

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
            return [conv.binarize_weight(conv.weight) > 0 for conv in binary_convs(model.bare_net)]
