# SPDX-License-Identifier: Apache-2.0
"""Activations against a learned local filter: LAB."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.ops import surrogate_sign
from lmb_quant.parts import zero_layer

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer


@activation_binarizer(
    "lab",
    source="LAB, arXiv 2210.13858, as in the code of the BSRC-2023 challenge; the filters' first values are ours",
    # At first d = x: g = (1 - tanh(x/2)^2) / 2; tanh(ln 2) = 3/5 at x = 2 ln 2, 0 at 0
    golden=Golden(
        x=(-1.3862943611198906, 0.0, 1.3862943611198906),
        y=(-1.0, 1.0, 1.0),
        grad_y=(1.0, 1.0, -2.0),
        grad_x=(0.32, 0.5, -0.64),
    ),
)
class LAB(ActivationBinarizer):
    """``y = 2 argmax_k o_k - 1``, o_0 and o_1 two maps that a depthwise 3 x 3 convolution makes of each channel.

    ``dy/do`` is that of the soft form ``2 softmax(o)_1 - 1``: with d = o_1 - o_0, ``y = sign(d)`` and ``dy/dd := (1 -
    tanh(d/2)^2) / 2``. Equal maps give +1. Outside the image is 0. At first o_1 = x/2 and o_0 = -x/2, so y = sign(x).

    There is no packed form: a packed threshold is a mean or a number, not a learned filter.

    Args:
        channels: C of the input.
    """

    is_per_channel = True

    def __init__(self, channels: int = 1, /) -> None:
        super().__init__()
        self.maps = zero_layer(nn.Conv2d, channels, 2 * channels, 3, padding=1, groups=channels)
        with torch.no_grad():
            self.maps.weight[:, 0, 1, 1] = torch.tensor([-0.5, 0.5]).repeat(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        o = self.maps(x).unflatten(1, (-1, 2))
        return surrogate_sign((o[:, :, 1] - o[:, :, 0]) / 2, "tanh").to(x.dtype)
