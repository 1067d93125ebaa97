# SPDX-License-Identifier: Apache-2.0
"""Narrows the adaptive gradient approximator during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lmb_quant.binarizers.weight_sign import ADAPTIVE_TRIANGLE, WeightSign
from lmb_quant.errors import LMBError, unknown_name

from ._base import Hook
from ._values import iterations, positive

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel

_SHAPES = ("linear", "exponential")


class ApproximatorSchedule(Hook):
    """Sets ``kappa`` of every adaptive triangle from ``start`` at iteration 1 to ``end`` at ``until``; then it stays.

    A pure function of the iteration, so there is nothing to resume.

    Args:
        start: First kappa, above 0.
        end: Last kappa, above 0.
        until: Iteration at which ``end`` is reached; by default the last one.
        shape: ``linear``, or ``exponential`` (a constant ratio between one iteration and the next).
    """

    def __init__(self, *, start: float, end: float, until: int | None = None, shape: str = "linear") -> None:
        self.start, self.end = positive("start", start), positive("end", end)
        self.until = None if until is None else iterations("until", until)
        if shape not in _SHAPES:
            raise LMBError(unknown_name("shape", shape, _SHAPES))
        self.shape = shape

    def kappa(self, it: int, total: int) -> float:
        """The kappa of an iteration."""
        until = total if self.until is None else self.until
        done = 1.0 if until == 1 else min((it - 1) / (until - 1), 1.0)
        if self.shape == "linear":
            return self.start + (self.end - self.start) * done
        return self.start * (self.end / self.start) ** done

    def check(self, opt: dict[str, Any], net: nn.Module, image: Tensor | None) -> None:
        """Raises LMBError if ``until`` lies beyond the training, or no layer has an adaptive triangle."""
        total = int(opt["train"]["total_iter"])
        if self.until is not None and self.until > total:
            raise LMBError(f"until: {self.until!r} is not allowed. Allowed: an iteration up to total_iter, {total}.")
        if not self._binarizers(net):
            raise LMBError(f"no layer has the surrogate {ADAPTIVE_TRIANGLE!r}.")

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Sets kappa."""
        kappa = self.kappa(it, model.total_iter)
        for binarizer in self._binarizers(model.bare_net):
            binarizer.kappa.fill_(kappa)

    @staticmethod
    def _binarizers(net: nn.Module) -> list[WeightSign]:
        signs = [module for module in net.modules() if isinstance(module, WeightSign)]
        return [sign for sign in signs if sign.surrogate == ADAPTIVE_TRIANGLE]
