# SPDX-License-Identifier: Apache-2.0
"""Activation functions that may follow a binary convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.errors import LMBError, unknown_name


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


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "identity": lambda channels: nn.LeakyReLU(1.0),  # y = x, yet the unit's own act: the network adds no other
    "hardtanh": lambda channels: nn.Hardtanh(),
    "leaky_relu": lambda channels: nn.LeakyReLU(0.1),
    "maxout": Maxout,
    "prelu": nn.PReLU,
    "rprelu": RPReLU,
}


def act_parameters(act: nn.Module) -> tuple[str, dict[str, Tensor]]:
    """The packed word of an activation function, and its live parameters: ``slope``, ``gamma``, ``zeta``.

    Raises:
        LMBError: If it has no packed form.
    """
    if isinstance(act, nn.Identity):
        return "none", {}
    if isinstance(act, nn.ReLU):
        return "relu", {}
    if type(act) is nn.Hardtanh and (act.min_val, act.max_val) == (-1, 1):  # not ReLU6, which is one of 0 to 6
        return "hardtanh", {}
    if isinstance(act, nn.LeakyReLU):
        return "prelu", {"slope": torch.tensor([act.negative_slope])}
    if isinstance(act, nn.PReLU):
        return "prelu", {"slope": act.weight}
    if isinstance(act, RPReLU):
        return "rprelu", {"slope": act.beta, "gamma": act.gamma, "zeta": act.zeta}
    raise LMBError(
        f"act: {type(act).__name__} has no packed form. Allowed: ReLU, LeakyReLU, PReLU, RPReLU, Hardtanh of -1 to 1."
    )


def make_act(name: str, channels: int) -> nn.Module:
    """Makes the activation function of ``channels`` maps.

    Raises:
        LMBError: If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise LMBError(unknown_name("unit act", name, ACTIVATIONS))
    return ACTIVATIONS[name](channels)
