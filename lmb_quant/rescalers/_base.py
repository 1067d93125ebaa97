# SPDX-License-Identifier: Apache-2.0
"""What a rescaler is."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Self

from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.parts import Part, keeps_size, zero_layer


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

    def set_packed_factor(self, factor: Tensor) -> None:
        """Takes over what :meth:`packed_factor` gave.

        Raises:
            LMBError: If it has no such form.
        """
        raise LMBError(f"rescaler {self.recipe_name!r} does not take over a packed factor.")

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
