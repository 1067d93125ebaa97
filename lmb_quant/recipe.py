# SPDX-License-Identifier: Apache-2.0
"""Recipes: typed, strict data that says how a network is rewritten. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, create_model, model_validator

from lmb_quant.errors import LMBError, RecipeError, unknown_name
from lmb_quant.strict_data import validate
from lmb_quant.strict_yaml import dump_yaml, find_text, parse_mapping, shipped_names

TOKENS = ("@first", "@last", "@upsample", "@pointwise", "@grouped", "@strided")

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_WITH_OPTIONS = ConfigDict(extra="allow", frozen=True, strict=True)


def _plain(value: Any) -> Any:
    """Plain data of a model, without what is not given; an option of a part that is null is given."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, BaseModel):
        return value
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    return {name: _plain(each) for name, each in fields.items() if each is not None} | (value.model_extra or {})


def _merged(base: BinarizerChoice, override: ActivationOverride | None) -> dict[str, Any]:
    changes = {} if override is None else _plain(override)
    if changes.get("binarizer", base.binarizer) == base.binarizer:
        return base.model_dump() | changes
    return {key: value for key, value in base.model_dump().items() if key not in base.options} | changes


class Metadata(BaseModel):
    """Who the recipe is: name, one line of description, source (doi, arXiv, or "this project's choice")."""

    model_config = _STRICT
    name: str
    description: str = ""
    source: str = ""


class BinarizerChoice(BaseModel):
    """A binariser's name; every other key is an option of that binariser and is checked by it."""

    model_config = _WITH_OPTIONS
    binarizer: str

    @property
    def options(self) -> dict[str, Any]:
        """The options, without the name."""
        return dict(self.model_extra or {})


class WeightChoice(BinarizerChoice):
    """A weight binariser and the name of its scale alpha."""

    scale: str = "channel_mean"


class RescaleChoice(BaseModel):
    """A rescaler's name; every other key is an option of that rescaler and is checked by it."""

    model_config = _WITH_OPTIONS
    rescaler: str

    @property
    def options(self) -> dict[str, Any]:
        """The options, without the name."""
        return dict(self.model_extra or {})


class Unit(BaseModel):
    """What surrounds a binary convolution.

    ``skip``: ``auto`` adds the input where the shapes allow it and the network does not itself add it right after;
    ``shape`` wherever the shapes allow it; ``none`` never.
    ``act_on``: ``branch`` (where not given) applies ``act`` before the skip; ``sum`` after it; ``inner_sum`` after it,
    and not at all where the network's own residual block ends.
    ``pre_norm``: a norm of the input, before everything but the skip; none where not given.
    ``chain``: how many consecutive layers of one module share the state of binarisers that accumulate along the depth.
    """

    model_config = _STRICT
    skip: Literal["auto", "shape", "none"] = "auto"
    norm: str = "none"
    act: str = "none"
    act_on: Literal["branch", "sum", "inner_sum"] | None = None
    pre_norm: str | None = None
    chain: Annotated[int, Field(ge=1)] | None = None


class Scheme(BaseModel):
    """How a convolution is binarised."""

    model_config = _STRICT
    activation: BinarizerChoice
    weight: WeightChoice
    unit: Unit = Unit()
    rescale: RescaleChoice | None = None

    def overridden(self, override: Override) -> Scheme:
        """The scheme with an override's keys in place of its own; another binariser takes none of its options."""
        unit = {} if override.unit is None else _plain(override.unit)
        return Scheme(
            activation=BinarizerChoice(**_merged(self.activation, override.activation)),
            weight=WeightChoice(**_merged(self.weight, override.weight)),
            unit=Unit(**self.unit.model_dump() | unit),
            rescale=self.rescale,
        )


class ActivationOverride(BaseModel):
    """Options that replace those of the scheme; with another ``binarizer`` none of the scheme's are kept."""

    model_config = _WITH_OPTIONS
    binarizer: str | None = None


class WeightOverride(ActivationOverride):
    """As :class:`ActivationOverride`, with the scale."""

    scale: str | None = None


if TYPE_CHECKING:
    UnitOverride = Unit
else:
    UnitOverride = create_model(
        "UnitOverride",
        __config__=_STRICT,
        __doc__="Unit keys that replace those of the scheme.",
        __module__=__name__,
        **{name: (field.annotation | None, None) for name, field in Unit.model_fields.items()},
    )


class Override(BaseModel):
    """A change for the layers whose name matches; the first one that matches wins."""

    model_config = _STRICT
    match: str
    skip_layer: bool = False
    activation: ActivationOverride | None = None
    weight: WeightOverride | None = None
    unit: UnitOverride | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        changes = [key for key in ("activation", "weight", "unit") if getattr(self, key)]
        if self.skip_layer and changes:
            raise ValueError(f"skip_layer: true leaves the layer float, so {', '.join(changes)} would have no effect")
        if not self.skip_layer and not any(_plain(getattr(self, key)) for key in changes):
            raise ValueError("it changes nothing; give skip_layer: true, activation, weight or unit")
        return self


class Other(BaseModel):
    """A torchao config, in ``config_to_dict`` form, for layers that stay float."""

    model_config = _STRICT
    match: str
    torchao: dict[str, Any]


class Recipe(BaseModel):
    r"""How a network is rewritten: which convolutions, and what they become. Never how it is trained.

    Patterns are globs (``body.*``), regular expressions that match in full (``re:body\.\d+``) or, in ``ignore``,
    structural tokens (``@first``, ``@last``, ``@upsample``, ``@pointwise``, ``@grouped``, ``@strided``).
    ``targets`` holds the class name ``Conv2d`` or patterns.
    """

    model_config = _STRICT
    version: Annotated[int, Field(ge=1, le=1)]
    metadata: Metadata
    targets: Annotated[list[str], Field(min_length=1)] = ["Conv2d"]
    ignore: list[str] = []
    scheme: Scheme
    overrides: list[Override] = []
    others: list[Other] = []
    _place: str = PrivateAttr(default="recipe")

    @property
    def place(self) -> str:
        """Where the recipe was read, for error messages: a path, or its name."""
        return self._place

    @classmethod
    def load(cls, source: Recipe | Mapping[str, Any] | str | Path) -> Recipe:
        """Reads a recipe.

        Args:
            source: Name of a shipped recipe (``"lmb"``), path of a YAML file, YAML text, mapping, or a recipe.

        Raises:
            RecipeError: If there is no such recipe or file, or its content is not a recipe; names place, value and
                what is allowed.
        """
        if isinstance(source, Recipe):
            return source
        if isinstance(source, Mapping):
            return cls._build(dict(source), "recipe")
        if not isinstance(source, (str, Path)):
            raise RecipeError(f"recipe: {source!r} is not allowed. Allowed: a name, a path, YAML text or a mapping.")
        if isinstance(source, str) and _is_text(source):
            return cls._parse(source, "recipe")
        return cls._parse(*find_text(source, "recipe", _folder(), RecipeError))

    @classmethod
    def _parse(cls, text: str, place: str) -> Recipe:
        try:
            data = parse_mapping(text, place, "a recipe")
        except LMBError as error:
            raise RecipeError(str(error)) from None
        return cls._build(data, place)

    @classmethod
    def _build(cls, data: dict[str, Any], place: str) -> Recipe:
        recipe = validate(cls, data, place, RecipeError)
        for section, pattern in recipe._patterns():
            _check_pattern(pattern, section, place)
        recipe._place = place
        return recipe

    def _patterns(self) -> Iterator[tuple[str, str]]:
        """Each pattern with the place where it stands."""
        for section in ("targets", "ignore"):
            yield from ((f"{section}[{i}]", pattern) for i, pattern in enumerate(getattr(self, section)))
        for section in ("overrides", "others"):
            yield from ((f"{section}[{i}].match", rule.match) for i, rule in enumerate(getattr(self, section)))

    def __eq__(self, other: object) -> bool:
        """Two recipes are equal if their content is, wherever they were read."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`load` reads back to an equal recipe."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def to_yaml(self) -> str:
        """YAML text that :meth:`load` reads back to an equal recipe."""
        return dump_yaml(self.to_dict())


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return shipped_names(_folder())


def _folder() -> Traversable:
    return files("lmb_quant").joinpath("recipes")


def _is_text(source: str) -> bool:
    """Whether a string is YAML text: of several lines, or a mapping and no file's name."""
    is_file = source.endswith((".yaml", ".yml"))
    return "\n" in source or (not is_file and any(mark in source for mark in (": ", "{")))


def _check_pattern(pattern: str, section: str, recipe: str) -> None:
    place = f"{recipe}: {section}"
    if pattern.startswith("@"):
        if not section.startswith("ignore"):
            raise RecipeError(f"{place}: {pattern!r} is not allowed. Structural tokens are allowed in ignore only.")
        if pattern not in TOKENS:
            raise RecipeError(f"{place}: {unknown_name('token', pattern, TOKENS)}")
    if pattern.startswith("re:"):
        try:
            re.compile(pattern[3:])
        except re.error as error:
            raise RecipeError(f"{place}: {pattern!r} is not a regular expression: {error}.") from None
