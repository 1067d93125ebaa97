# SPDX-License-Identifier: Apache-2.0
"""Tells the binarisers how far the training is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmb_quant.binarizers import set_progress

from ._base import Hook

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class TrainingProgress(Hook):
    """Sets the progress of every binariser to ``(iteration - 1) / total_iter``; the surrogates ede and fda follow it.

    Always on. A pure function of the iteration, so there is nothing to resume.
    """

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Sets the progress."""
        set_progress(model.bare_net, min((it - 1) / model.total_iter, 1.0))
