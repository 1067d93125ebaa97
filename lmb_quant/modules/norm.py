# SPDX-License-Identifier: Apache-2.0
"""Normalisations that may follow a binary convolution."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lmb_quant.errors import LMBError, unknown_name

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
}


def make_norm(name: str, channels: int) -> nn.Module:
    """Makes the normalisation of ``channels`` maps.

    Raises:
        LMBError: If the name is unknown.
    """
    if name not in NORMS:
        raise LMBError(unknown_name("unit norm", name, NORMS))
    return NORMS[name](channels)
