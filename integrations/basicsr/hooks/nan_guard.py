# SPDX-License-Identifier: Apache-2.0
"""Stops a training that has gone wrong before it overwrites what was good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lmb_quant.errors import LMBError

from ._base import Hook

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class NanGuard(Hook):
    """Stops at a NaN or infinite loss, before the step; and never lets a network with such weights be saved.

    Always on. The last checkpoint stays as it is.
    """

    def after_backward(self, model: LMBModel, it: int) -> None:
        """Raises LMBError if the loss is not finite."""
        if not torch.isfinite(model.loss):
            losses = ", ".join(f"{name} {value.item():g}" for name, value in model.losses.items())
            raise LMBError(f"iteration {it:,}: the loss is not finite ({losses}). {self._advice(model)}")

    def before_save(self, model: LMBModel, it: int) -> None:
        """Raises LMBError if a weight or a buffer is not finite."""
        for name, value in model.bare_net.state_dict().items():
            if not torch.isfinite(value).all():
                where = f"after the last iteration, {model.total_iter:,}" if it == -1 else f"iteration {it:,}"
                raise LMBError(f"{where}: {name} is not finite and is not saved. {self._advice(model)}")

    @staticmethod
    def _advice(model: LMBModel) -> str:
        kept = model.last_checkpoint
        where = f"The last good checkpoint is {kept}." if kept is not None else "No checkpoint had been written yet."
        return f"{where} A lower train.optim_g.lr or the hook GradientClipping may help."
