# SPDX-License-Identifier: Apache-2.0
"""Activation functions that may follow a binary convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops.binary_conv2d.spec import ACTS


class RPReLU(nn.Module):
    """PReLU with a learned shift before and after it, all per channel.

    ``y = x - gamma + zeta if x > gamma else beta (x - gamma) + zeta``; at first gamma = zeta = 0, beta = 0.25.

    Args:
        channels: C of the input ``(N, C, H, W)``.

    Source:
        ReActNet, arXiv 2003.03488, eq. 6.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.full((channels,), 0.25))
        self.zeta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same shape and dtype."""
        gamma, beta, zeta = (p.to(x.dtype) for p in (self.gamma, self.beta, self.zeta))
        return F.prelu(x - gamma.view(1, -1, 1, 1), beta) + zeta.view(1, -1, 1, 1)

    def packed_act(self) -> tuple[str, dict[str, Tensor]]:
        """Its name and values in the packed form, :data:`lmb_quant.ops.binary_conv2d.spec.ACTS`."""
        return "rprelu", {"slope": self.beta, "gamma": self.gamma, "zeta": self.zeta}


class Maxout(nn.Module):
    """Learned slopes, per channel, on both sides of zero.

    ``y = positive max(x, 0) + negative min(x, 0)``; at first positive = 1, negative = 0.25.

    Args:
        channels: C of the input ``(N, C, H, W)``.

    Source:
        AdaBin, arXiv 2208.08084, with the initial values of its code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.positive = nn.Parameter(torch.ones(channels))
        self.negative = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same shape and dtype."""
        positive, negative = (p.to(x.dtype).view(1, -1, 1, 1) for p in (self.positive, self.negative))
        return positive * x.clamp(min=0) + negative * x.clamp(max=0)


NONE, IDENTITY = "none", "identity"
"""Both are y = x. With ``none`` the network's own activation function stays, ``identity`` takes its place."""

ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    NONE: lambda channels: nn.Identity(),
    IDENTITY: lambda channels: nn.Identity(),
    "leaky_relu": lambda channels: nn.LeakyReLU(0.1),
    "maxout": Maxout,
    "rprelu": RPReLU,
    **{name: act.make for name, act in ACTS.items() if act.make is not None},
}


def make_act(name: str, channels: int) -> nn.Module:
    """Makes the activation function of ``channels`` maps.

    Raises:
        LMBError: If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise LMBError(unknown_name("unit act", name, ACTIVATIONS))
    return ACTIVATIONS[name](channels)
