# SPDX-License-Identifier: Apache-2.0
"""What a binariser is: a module that maps numbers to two values, and the golden numbers that pin it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lmb_quant.errors import LMBError
from lmb_quant.ops import Threshold


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


class Binarizer(nn.Module, ABC):
    """Common part of activation and weight binarisers. Keyword-only constructor arguments are its recipe options."""

    recipe_name: ClassVar[str]
    source: ClassVar[str]
    golden: ClassVar[Golden]

    is_pm1: ClassVar[bool] = True
    """Whether the two values are exactly -1 and +1. Where they are others, there is no packed form."""

    progress: Tensor
    """Fraction of the training that is done, in [0, 1], no part of the state; see :func:`set_progress`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Makes the binariser for one convolution; overridden where it needs the convolution's channels."""
        return cls(**options)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``x``: same shape and dtype, two values (:attr:`is_pm1`), differentiable once."""

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this binariser again."""
        return {}

    def extra_repr(self) -> str:
        """Shows the options in ``print(model)``."""
        return ", ".join(f"{key}={value!r}" for key, value in self.get_options().items())


class ActivationBinarizer(Binarizer):
    """Binarises ``(N, C, H, W)`` activations by comparing them with a threshold."""

    additions_per_value: int = 0
    """Real additions that the threshold costs for each activation value, beside the comparison."""

    def packed_threshold(self) -> Threshold | None:
        """The comparison as data, for the packed form; None where the binariser has no such form."""
        return None


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
