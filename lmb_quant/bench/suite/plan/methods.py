# SPDX-License-Identifier: Apache-2.0
"""From a suite's list of methods to recipes. Every shipped recipe is a method; there is no list to edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import expanded
from lmb_quant.recipe import Override, Recipe, recipe_names
from lmb_quant.strict_data import validate

from .schema import ALL, BICUBIC, FLOAT, HOST_SCHEMES, MethodChoice
from .schemes import ENGINE_INT8, HOSTS, QAT


@dataclass(frozen=True)
class Method:
    """A way to get an HR image.

    ``recipe`` is None for bicubic upscaling, the float network, and a host's quantised form of it, where ``host``
    names the scheme. A recipe with a host is the packed network under the engine's scheme. ``seeds`` are those of the
    network's that it is run with; None: all. ``rate_of`` is the method whose learning rate it has.
    """

    name: str
    recipe: Recipe | None = None
    hooks: tuple[dict[str, Any], ...] = ()
    host: str | None = None
    seeds: tuple[int, ...] | None = None
    rate_of: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether a network is behind it."""
        return self.name != BICUBIC

    @property
    def rated(self) -> str:
        """The name under which it has its learning rate: what is only made of a trained network has that network's."""
        return self.rate_of or self.name


def _every() -> tuple[str, ...]:
    return BICUBIC, FLOAT, *HOSTS, *recipe_names()


_GROUPS: dict[str, Callable[[], Sequence[str]]] = {ALL: _every, HOST_SCHEMES: lambda: HOSTS}


def resolve_methods(choices: Sequence[str | dict[str, Any]] | str, place: str) -> list[Method]:
    """Looks every method up.

    Args:
        choices: ``all``, or a list of: ``all``, ``hosts``, ``bicubic``, ``float``, a host's scheme, a recipe's name or
            path, or a mapping (:class:`MethodChoice`). A mapping that has the name of a shipped recipe takes its place.
        place: Where the list stands: the suite's file, for messages and relative paths.

    Returns:
        Each method once, in order.

    Raises:
        LMBError: If a method is unknown or malformed, or a name is given twice.
    """
    found: dict[str, Method] = {}
    chosen: set[str] = set()
    for i, choice in enumerate([choices] if isinstance(choices, str) else choices):
        where = f"{place}: methods[{i}]"
        if isinstance(choice, str) and choice in _GROUPS:
            for name in _GROUPS[choice]():
                found.setdefault(name, _named(name, where, place))
            continue
        method = _named(choice, where, place) if isinstance(choice, str) else _made(choice, where, place)
        if method.name in chosen:
            raise LMBError(f"{where}: the name {method.name!r} is given twice. Give one of them another name.")
        chosen.add(method.name)
        found[method.name] = method
    return list(found.values())


def _named(name: str, where: str, place: str) -> Method:
    if name in (BICUBIC, FLOAT):
        return Method(name)
    if name in HOSTS:
        return Method(name, host=name, rate_of=name if name == QAT else FLOAT)
    if name.endswith((".yaml", ".yml")):
        return Method(_free(Path(name).stem, where), _recipe(_beside(name, place), where))
    if name not in recipe_names():
        raise LMBError(f"{where}: {unknown_name('method', name, (*_GROUPS, *_every()))}")
    return Method(name, Recipe.load(name))


def _made(choice: dict[str, Any], where: str, place: str) -> Method:
    wanted = validate(MethodChoice, choice, where)
    _free(wanted.name, where)
    source = wanted.recipe if isinstance(wanted.recipe, dict) else _beside(wanted.recipe, place)
    recipe = _recipe(source, where)
    changes = {key: getattr(wanted, key) for key in ("activation", "weight", "unit") if getattr(wanted, key)}
    if changes:
        scheme = recipe.scheme.overridden(Override(match="*", **changes))
        recipe = recipe.model_copy(update={"scheme": scheme})
    seeds = None if wanted.seeds is None else tuple(wanted.seeds)
    hooks = tuple(wanted.hooks)
    if wanted.arithmetic == "float32":
        return Method(wanted.name, recipe, hooks, seeds=seeds)
    same = Path(wanted.recipe).stem if isinstance(wanted.recipe, str) and not changes and not hooks else wanted.name
    return Method(wanted.name, recipe, hooks, ENGINE_INT8, seeds, rate_of=same)


def _recipe(source: str | dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.load(source)
    except LMBError as error:
        raise LMBError(f"{where}: {error}") from error


def _free(name: str, where: str) -> str:
    if name in (*_GROUPS, BICUBIC, FLOAT, *HOSTS):
        raise LMBError(f"{where}: name: {name!r} is not allowed: it has a meaning of its own.")
    return name


def _beside(source: str, place: str) -> str:
    """A relative path of a recipe counts from the suite's file."""
    if not source.endswith((".yaml", ".yml")):
        return source
    return str(Path(place).parent / expanded(source)) if Path(place).is_file() else source
