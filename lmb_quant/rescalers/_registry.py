# SPDX-License-Identifier: Apache-2.0
"""Names of rescalers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from lmb_quant.parts import make_part, register_part

from ._base import Rescaler

_rescalers: dict[str, type[Rescaler]] = {}


def rescaler(name: str, *, source: str) -> Callable[[type[Rescaler]], type[Rescaler]]:
    """Registers a rescaler under its recipe word.

    Args:
        name: The word in ``rescale: {rescaler: ...}``.
        source: Paper and equation, or "this project's choice".

    Raises:
        LMBError: If the name is taken.
    """

    def add(cls: type[Rescaler]) -> type[Rescaler]:
        register_part(_rescalers, "rescaler", name, source, cls)
        return cls

    return add


def rescalers() -> Mapping[str, type[Rescaler]]:
    """All registered rescalers by recipe word, read-only."""
    return MappingProxyType(_rescalers)


def make_rescaler(conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> Rescaler:
    """Makes the rescaler of one convolution; as :func:`lmb_quant.parts.make_part`."""
    return make_part(_rescalers, "rescaler", conv, name, options)
