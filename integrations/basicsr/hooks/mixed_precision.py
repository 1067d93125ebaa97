# SPDX-License-Identifier: Apache-2.0
"""bfloat16 where it is safe."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from ._base import Hook

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class MixedPrecision(Hook):
    """Runs the forward pass of training under bfloat16 autocast; losses and optimiser stay in float32.

    bfloat16 has float32's range, so no gradient scaler is needed. The local mean is computed in float32 all the same.
    """

    def __init__(self) -> None:
        self._device = "cpu"

    def before_train(self, model: LMBModel) -> None:
        """Takes the model's device."""
        self._device = model.device.type

    def forward_context(self) -> AbstractContextManager[Any]:
        """Autocast."""
        return torch.autocast(self._device, dtype=torch.bfloat16)
