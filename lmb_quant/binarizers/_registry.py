# SPDX-License-Identifier: Apache-2.0
"""Names of binarisers and rescalers, and the checked way from a recipe's words to a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from lmb_quant.errors import LMBError, unknown_name

from ._base import ActivationBinarizer, Binarizer, Golden, Part, Rescaler, WeightBinarizer

_B = TypeVar("_B", bound=Binarizer)
_P = TypeVar("_P", bound=Part)
_activations: dict[str, type[ActivationBinarizer]] = {}
_weights: dict[str, type[WeightBinarizer]] = {}
_rescalers: dict[str, type[Rescaler]] = {}


def _add(table: dict[str, type[_P]], what: str, name: str, source: str, cls: type[_P]) -> None:
    if name in table:
        raise LMBError(f"{what} name {name!r} is already taken by {table[name].__qualname__}.")
    cls.recipe_name, cls.source = name, source
    table[name] = cls


def _register(table: dict[str, type[_B]], name: str, source: str, golden: Golden) -> Callable[[type[_B]], type[_B]]:
    def add(cls: type[_B]) -> type[_B]:
        _add(table, "binarizer", name, source, cls)
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


def rescaler(name: str, *, source: str) -> Callable[[type[Rescaler]], type[Rescaler]]:
    """Registers a rescaler under its recipe word.

    Args:
        name: The word in ``rescale: {rescaler: ...}``.
        source: Paper and equation, or "this project's choice".

    Raises:
        LMBError: If the name is taken.
    """

    def add(cls: type[Rescaler]) -> type[Rescaler]:
        _add(_rescalers, "rescaler", name, source, cls)
        return cls

    return add


def activation_binarizers() -> Mapping[str, type[ActivationBinarizer]]:
    """All registered activation binarisers by recipe word, read-only."""
    return MappingProxyType(_activations)


def weight_binarizers() -> Mapping[str, type[WeightBinarizer]]:
    """All registered weight binarisers by recipe word, read-only."""
    return MappingProxyType(_weights)


def rescalers() -> Mapping[str, type[Rescaler]]:
    """All registered rescalers by recipe word, read-only."""
    return MappingProxyType(_rescalers)


@cache
def options_model(cls: type[Part]) -> type[BaseModel]:
    """The pydantic model of a part's options, read off its keyword-only constructor arguments."""
    hints = get_type_hints(cls.__init__, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return create_model(f"{cls.__name__}Options", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _make(table: Mapping[str, type[_P]], what: str, conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> _P:
    if name not in table:
        raise LMBError(unknown_name(what, name, table))
    model = options_model(table[name])
    for key in options:
        if key not in model.model_fields:
            raise LMBError(unknown_name(f"option of {what} {name!r}:", key, model.model_fields or ["(none)"]))
    try:
        model(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        raise LMBError(f"{what} {name!r}: {key}: {first['input']!r} is not allowed. {first['msg']}.") from None
    return table[name].for_conv(conv, **options)


def make_activation(conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> ActivationBinarizer:
    """Makes the activation binariser of one convolution from recipe words.

    Raises:
        LMBError: If the name or an option is unknown, or a value is not allowed.
    """
    return _make(_activations, "activation binarizer", conv, name, options)


def make_weight(conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> WeightBinarizer:
    """Makes the weight binariser of one convolution; as :func:`make_activation`."""
    return _make(_weights, "weight binarizer", conv, name, options)


def make_rescaler(conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> Rescaler:
    """Makes the rescaler of one convolution; as :func:`make_activation`."""
    return _make(_rescalers, "rescaler", conv, name, options)
