# SPDX-License-Identifier: Apache-2.0
"""What a binariser is: a module whose output is exactly -1 or +1, and the golden numbers that pin it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Self

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

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Makes the binariser for one convolution; overridden where it needs the convolution's channels."""
        return cls(**options)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``x``: same shape and dtype, exactly -1 or +1, differentiable once."""

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
