# SPDX-License-Identifier: Apache-2.0
"""The architectures: what files of packed networks, BasicSR's option files, benchmarks and the command line know."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from torch import nn

from lmb_quant.errors import LMBError, unknown_name

_M = TypeVar("_M", bound=nn.Module)


@dataclass(frozen=True)
class Architecture:
    """A super-resolution network that is registered.

    ``make`` is its class, whose name stands in files and option files and whose arguments ``upscale``, ``num_feat`` and
    ``recipe`` mean the same in all. ``short_name`` is its name on the command line; ``count`` the argument that says
    how many ``parts`` its body has; ``words`` are the arguments that are words, where all others are numbers.
    """

    make: type[nn.Module]
    short_name: str
    count: str
    parts: str
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its class."""
        return self.make.__name__

    @property
    def default_count(self) -> int:
        """How many parts its body has where nothing else is said."""
        return int(inspect.signature(self.make).parameters[self.count].default)


_architectures: dict[str, Architecture] = {}
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(_architectures)
"""Every registered architecture, by the name of its class."""


def architecture(
    short_name: str, *, count: str, parts: str, words: tuple[str, ...] = ()
) -> Callable[[type[_M]], type[_M]]:
    """Registers a network under the name of its class; the fields are those of :class:`Architecture`.

    Raises:
        LMBError: If a name is taken, or the class has no argument ``count`` with a default.
    """

    def add(cls: type[_M]) -> type[_M]:
        new = Architecture(cls, short_name, count, parts, words)
        for old in _architectures.values():
            if new.name == old.name or short_name == old.short_name:
                raise LMBError(f"architecture name {new.name!r} or {short_name!r} is already taken by {old.make}.")
        argument = inspect.signature(cls).parameters.get(count)
        if argument is None or not isinstance(argument.default, int):
            raise LMBError(f"architecture {new.name!r}: count: it has no argument {count!r} with a number as default.")
        _architectures[new.name] = new
        return cls

    return add


def architecture_called(short_name: str) -> Architecture:
    """The architecture of a short name.

    Raises:
        LMBError: If there is none.
    """
    found = {known.short_name: known for known in _architectures.values()}
    if short_name not in found:
        raise LMBError(unknown_name("arch", short_name, found))
    return found[short_name]


def architecture_of(model: nn.Module) -> Architecture | None:
    """The registered architecture of a network; None where its class is not one, whatever its name."""
    found = ARCHITECTURES.get(type(model).__name__)
    return found if found is not None and found.make is type(model) else None
