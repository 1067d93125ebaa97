# SPDX-License-Identifier: Apache-2.0
"""Parts of a binary convolution's unit that recipes name, binarisers and rescalers: registered, checked and made."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn
from torch.nn.utils import skip_init

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops.geometry import keeps_sides, padding_of


class Part(nn.Module, ABC):
    """A part of a binary convolution's unit that a recipe names. Keyword-only constructor arguments are its options."""

    recipe_name: ClassVar[str]
    source: ClassVar[str]

    is_per_channel: ClassVar[bool] = False
    """Whether its one positional argument is the convolution's input channels."""

    @classmethod
    def for_conv(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Makes the part for one convolution; overridden where it needs more of it than its input channels."""
        return cls(conv.in_channels, **options) if cls.is_per_channel else cls(**options)

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this part again: by default the attributes of their names."""
        return {name: getattr(self, name) for name in options_model(type(self)).model_fields}

    def extra_repr(self) -> str:
        """Shows the options in ``print(model)``."""
        return ", ".join(f"{key}={value!r}" for key, value in self.get_options().items())


_L = TypeVar("_L", bound=nn.Module)
_P = TypeVar("_P", bound=Part)


def register_part(table: dict[str, type[_P]], what: str, name: str, source: str, cls: type[_P]) -> None:
    """Enters a class into the table of its kind.

    Raises:
        LMBError: If the name is taken, or an option has no annotation.
    """
    if name in table:
        raise LMBError(f"{what} name {name!r} is already taken by {table[name].__qualname__}.")
    hints = get_type_hints(cls.__init__)
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in hints:
            raise LMBError(
                f"{what} {name!r}: the option {parameter.name!r} has no annotation, by which recipes are checked. "
                f"Allowed: one such as {parameter.name}: int."
            )
    cls.recipe_name, cls.source = name, source
    table[name] = cls


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


def make_part(table: Mapping[str, type[_P]], what: str, conv: nn.Conv2d, name: str, options: Mapping[str, Any]) -> _P:
    """Makes the part of one convolution from recipe words.

    Args:
        table: The parts of its kind, by recipe word.
        what: The kind, for messages.
        conv: The convolution.
        name: The part's recipe word.
        options: Its options.

    Raises:
        LMBError: If the name or an option is unknown, or a value is not allowed.
    """
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
    return table[name].for_conv(conv, **options).to(conv.weight.device, conv.weight.dtype)


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether a convolution's output has the height and width of its input, whatever they are."""
    return keeps_sides(conv.kernel_size, conv.stride, padding_of(conv), conv.dilation)


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
