# SPDX-License-Identifier: Apache-2.0
"""Keeps the network of the best validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lmb_quant.errors import LMBError, unknown_name

from ._base import Hook
from ._values import names

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class BestCheckpoint(Hook):
    """Saves ``net_g_best_<dataset>_<metric>.pth`` whenever a validation is the best so far.

    Args:
        metrics: Names from ``val: metrics:``; by default all.
    """

    def __init__(self, *, metrics: Sequence[str] | None = None) -> None:
        self.metrics = None if metrics is None else names("metrics", metrics, "val.metrics")

    def check(self, opt: dict[str, Any], net: nn.Module, image: Tensor | None) -> None:
        """Raises LMBError if a metric is not computed."""
        computed = (opt.get("val") or {}).get("metrics") or {}
        if not computed:
            raise LMBError("val: the key 'metrics' is missing; BestCheckpoint needs it.")
        for name in self.metrics or ():
            if name not in computed:
                raise LMBError(f"metrics: {unknown_name('metric', name, computed)}")

    def after_val(self, model: LMBModel, it: int, dataset: str, metrics: dict[str, float]) -> None:
        """Saves if this validation is the best."""
        for name in metrics if self.metrics is None else self.metrics:
            if model.best_metric_results[dataset][name]["iter"] == it:
                model.before_save(it)
                model.save_networks(f"best_{dataset}_{name}")
