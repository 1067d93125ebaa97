# SPDX-License-Identifier: Apache-2.0
"""Names of binarisers, and the checked way from a recipe's words to a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from torch import nn

from lmb_quant.parts import make_part, register_part

from ._base import ActivationBinarizer, Binarizer, Golden, WeightBinarizer

_B = TypeVar("_B", bound=Binarizer)
_activations: dict[str, type[ActivationBinarizer]] = {}
_weights: dict[str, type[WeightBinarizer]] = {}


def _register(table: dict[str, type[_B]], name: str, source: str, golden: Golden) -> Callable[[type[_B]], type[_B]]:
    def add(cls: type[_B]) -> type[_B]:
        register_part(table, "binarizer", name, source, cls)
        cls.golden = golden
        return cls

    return add


def activation_binarizer(
    name: str, *, source: str, golden: Golden
) -> Callable[[type[ActivationBinarizer]], type[ActivationBinarizer]]:
    """Registers an activation binariser under its recipe word.

    Args:
        name: The word in ``activation: {binarizer: ...}``.
        source: Paper and equation, or "this project's choice".
        golden: Hand-worked numbers for the contract test.

    Raises:
        LMBError: If the name is taken.
    """
    return _register(_activations, name, source, golden)


def weight_binarizer(
    name: str, *, source: str, golden: Golden
) -> Callable[[type[WeightBinarizer]], type[WeightBinarizer]]:
    """Registers a weight binariser; as :func:`activation_binarizer`."""
    return _register(_weights, name, source, golden)


def activation_binarizers() -> Mapping[str, type[ActivationBinarizer]]:
    """All registered activation binarisers by recipe word, read-only."""
    return MappingProxyType(_activations)


def weight_binarizers() -> Mapping[str, type[WeightBinarizer]]:
    """All registered weight binarisers by recipe word, read-only."""
    return MappingProxyType(_weights)


def make_activation(conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> ActivationBinarizer:
    """Makes the activation binariser of one convolution from recipe words.

    Raises:
        LMBError: If the name or an option is unknown, or a value is not allowed.
    """
    return make_part(_activations, "activation binarizer", conv, name, options)


def make_weight(conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> WeightBinarizer:
    """Makes the weight binariser of one convolution; as :func:`make_activation`."""
    return make_part(_weights, "weight binarizer", conv, name, options)
