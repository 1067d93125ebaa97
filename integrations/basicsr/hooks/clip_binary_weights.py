# SPDX-License-Identifier: Apache-2.0
"""Keeps latent weights within reach of their surrogate gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lmb_quant.modules import binary_convs

from ._base import Hook
from ._values import positive

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class ClipBinaryWeights(Hook):
    """Clamps the latent weights of every binary convolution to ``[-limit, limit]`` after each step.

    Args:
        limit: Above 0.

    Source:
        BinaryConnect, arXiv 1511.00363, section 2.4.
    """

    def __init__(self, *, limit: float = 1.0) -> None:
        self.limit = positive("limit", limit)

    def after_step(self, model: LMBModel, it: int) -> None:
        """Clamps."""
        with torch.no_grad():
            for conv in binary_convs(model.bare_net):
                conv.weight.clamp_(-self.limit, self.limit)
