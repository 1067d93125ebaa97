# SPDX-License-Identifier: Apache-2.0
"""What a binariser is, and the golden numbers that pin it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops import Comparison, Threshold
from lmb_quant.parts import Part


@dataclass(frozen=True)
class Golden:
    """Numbers worked out by hand that the contract test holds a binariser to.

    An activation binariser reads ``x`` as a one-row image ``(1, 1, 1, len(x))``, a weight binariser as one filter
    ``(1, len(x), 1, 1)``.

    Invariants: all four have the same length; ``grad_x`` is the gradient that ``grad_y`` at the output sends to ``x``.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    grad_y: tuple[float, ...]
    grad_x: tuple[float, ...]
    options: dict[str, Any] = field(default_factory=dict)


class Chain:
    """The running sum of what layers in a row add to it, during one run of the network; empty between runs."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins empty: what an interrupted run left is no part of the network."""
        return {"total": None}


@dataclass(frozen=True)
class Place:
    """A layer's place among those that share a :class:`Chain`."""

    chain: Chain
    is_first: bool
    is_last: bool

    def add(self, term: Tensor) -> Tensor:
        """Adds this layer's term, and returns the sum of the terms up to this layer."""
        before = None if self.is_first else self.chain.total
        if before is not None and before.shape != term.shape:
            raise LMBError(
                f"unit chain: {tuple(term.shape)} cannot be added to {tuple(before.shape)} of the layers before. "
                "Allowed: layers in a row that work at one size."
            )
        total = term if before is None else before + term
        self.chain.total = None if self.is_last else total
        return total


class Binarizer(Part):
    """Common part of activation and weight binarisers."""

    golden: ClassVar[Golden]

    is_pm1: ClassVar[bool] = True
    """Whether the two values are exactly -1 and +1. Where they are others, there is no packed form."""

    bases: int = 1
    """Binary tensors whose weighted sum stands for one real tensor; above 1 the values are the sum's."""

    place: Place | None = None
    """Where layers share state along the depth: set by the rewrite, see the recipe's ``unit: {chain: ...}``."""

    progress: Tensor
    """Fraction of the training that is done, in [0, 1], no part of the state; see :func:`set_progress`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``x``: same shape and dtype, two values (:attr:`is_pm1`), differentiable once."""


class ActivationBinarizer(Binarizer):
    """Binarises ``(N, C, H, W)`` activations by comparing them with a threshold."""

    additions_per_value: int = 0
    """Real additions that the threshold costs for each activation value, beside the comparison."""

    macs_per_value: int = 0
    """Real multiplications for each activation value, beside those of convolutions and linear layers inside."""

    def comparison(self) -> Comparison | None:
        """What :meth:`forward` computes as data, with the live parameters; None where it has no such form.

        With it a layer packs, and trains by the engine.

        Raises:
            LMBError: If an option is beyond what the packed form allows.
        """
        return None

    def packed_threshold(self) -> Threshold | None:
        """The comparison without gradients, for the packed form; None where the binariser has no such form.

        Raises:
            LMBError: As :meth:`comparison`.
        """
        comparison = self.comparison()
        return None if comparison is None else comparison.threshold.detach()


class WeightBinarizer(Binarizer):
    """Takes the signs of ``(O, I, Kh, Kw)`` weights; scales are separate (:mod:`lmb_quant.ops.weight_scale`)."""


def set_progress(model: nn.Module, progress: float) -> None:
    """Tells every binariser of a network how far its training is; some narrow their surrogate by it (``ede``, ``fda``).

    Called before each step: in BasicSR pipelines that is done, other training loops do it themselves. Inference does
    not depend on it.

    Args:
        model: Any module.
        progress: Steps done / all steps, in [0, 1].

    Raises:
        LMBError: If ``progress`` is outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise LMBError(f"progress: {progress!r} is not allowed. Allowed: 0 to 1.")
    for module in model.modules():
        if isinstance(module, Binarizer):
            module.progress.fill_(progress)
