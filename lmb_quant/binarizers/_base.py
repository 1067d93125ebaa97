# SPDX-License-Identifier: Apache-2.0
"""What a binariser and a rescaler are: parts of a binary convolution's unit, and the golden numbers that pin them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from lmb_quant.errors import LMBError
from lmb_quant.ops import Comparison, Threshold

_L = TypeVar("_L", bound=nn.Module)


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


class Part(nn.Module, ABC):
    """A part of a binary convolution's unit that a recipe names. Keyword-only constructor arguments are its options."""

    recipe_name: ClassVar[str]
    source: ClassVar[str]

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Makes the part for one convolution; overridden where it needs the convolution's channels."""
        return cls(**options)

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this part again."""
        return {}

    def extra_repr(self) -> str:
        """Shows the options in ``print(model)``."""
        return ", ".join(f"{key}={value!r}" for key, value in self.get_options().items())


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


class Rescaler(Part):
    """Computes from a unit's real input what multiplies the output of its binary convolution, and may shift the input.

    A packed layer can have a factor of each pixel, :meth:`packed_factor`; with another one there is no packed form.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(N, I, H, W)`` to what is binarised in its place, and a factor that broadcasts to the output."""

    def packed_factor(self) -> Tensor | None:
        """The factor of a pixel as data, for the packed form and the engine; None where the rescaler has no such form.

        Returns:
            ``(I + 1,)``: the factor is ``min(max(w . x + b, 0), 1)`` of the pixel's input x, b the last value. The
            input is binarised as it is, and the output has its height and width. Differentiable.
        """
        return None

    def macs(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Real multiplications, beside those of convolutions and linear layers inside; here: one an output value.

        Args:
            before: Size of the input, ``(N, I, H, W)``.
            after: Size of the output, ``(N, O, H', W')``.
        """
        return math.prod(after)

    def additions(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Real additions, as :meth:`macs`."""
        return 0


class SpatialRescaler(Rescaler):
    """A rescaler with ``spatial``, a 1 x 1 convolution of the input to one map; all its weights are 0 at first.

    Args:
        conv: The convolution whose output is scaled.

    Raises:
        LMBError: If the convolution changes height or width.
    """

    def __init__(self, conv: nn.Conv2d, /) -> None:
        super().__init__()
        if not keeps_size(conv):
            allowed = "convolutions that keep both"
            raise LMBError(f"rescaler {self.recipe_name!r}: {conv} changes height or width. Allowed: {allowed}.")
        self.spatial = zero_layer(nn.Conv2d, conv.in_channels, 1, 1)

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Makes it for the convolution's channels."""
        return cls(conv, **options)


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether a convolution's output has the height and width of its input, whatever they are."""
    if any(step > 1 for step in conv.stride):
        return False
    if isinstance(conv.padding, str):
        return conv.padding == "same"
    sizes = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    return all(2 * padding == dilation * (kernel - 1) for padding, dilation, kernel in sizes)


def zero_layer(layer: type[_L], *args: Any, **options: Any) -> _L:
    """Makes a layer whose parameters are all 0, and takes no random number: a rewrite is the same at each run.

    Args:
        layer: ``nn.Conv2d`` or the like.
        args: Its arguments.
        options: Its keyword arguments.
    """
    made = skip_init(layer, *args, **options)
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    return made


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
