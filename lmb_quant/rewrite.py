# SPDX-License-Identifier: Apache-2.0
"""plan() says what a recipe does to a model; binarize() does it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError, RecipeError, unknown_name
from lmb_quant.modules import BinaryConv2d, LayerConfig
from lmb_quant.recipe import ActivationOverride, BinarizerChoice, Override, Recipe
from lmb_quant.structure import Structure, find_structure
from lmb_quant.table import render

RecipeLike = Recipe | Mapping[str, Any] | str | Path


@dataclass(frozen=True)
class PlannedLayer:
    """One row of a plan.

    Invariants: ``config`` is given exactly where ``decision`` is ``"binary"``; bytes are those of weight and bias in
    float32 before, and of the packed weight, its scale and the unit's float32 parameters after.
    """

    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    decision: str
    rule: str
    config: LayerConfig | None
    bytes_before: int
    bytes_after: int
    torchao: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name under which ``named_modules`` first lists the layer."""
        return self.names[0]


@dataclass(frozen=True)
class Plan:
    """What a recipe does to a model: one row for every layer that holds weights. ``print`` shows it as a table."""

    recipe: Recipe
    layers: tuple[PlannedLayer, ...]
    structure: Structure

    @property
    def binary(self) -> tuple[PlannedLayer, ...]:
        """The rows of the layers that become binary."""
        return tuple(layer for layer in self.layers if layer.config is not None)

    def __str__(self) -> str:
        rows = [
            (
                layer.name or "(the model itself)",
                layer.kind,
                "x".join(map(str, layer.shape)),
                layer.decision,
                layer.rule,
                f"{layer.bytes_before:,}",
                f"{layer.bytes_after:,}",
            )
            for layer in self.layers
        ]
        before = sum(layer.bytes_before for layer in self.layers)
        after = sum(layer.bytes_after for layer in self.layers)
        rows.append(("total", "", "", f"{len(self.binary)} binary", "", f"{before:,}", f"{after:,}"))
        title = f"recipe {self.recipe.metadata.name}; parts found {self.structure.how}"
        columns = ("layer", "class", "weight", "decision", "rule that decided", "bytes before", "bytes after")
        return render(title, columns, rows, right=(5, 6))


def matches(pattern: str, name: str) -> bool:
    """Whether a glob, or ``re:`` and a regular expression, matches a layer's whole name.

    Raises:
        RecipeError: If the regular expression is not valid.
    """
    if not pattern.startswith("re:"):
        return fnmatch.fnmatchcase(name, pattern)
    try:
        return re.fullmatch(pattern[3:], name) is not None
    except re.error as error:
        raise RecipeError(f"pattern {pattern!r}: not a regular expression: {error}.") from None


def plan(model: nn.Module, recipe: RecipeLike, *, input_size: tuple[int, ...] | None = None) -> Plan:
    """Says what :func:`binarize` would do, and does nothing.

    Args:
        model: Any module.
        recipe: What :meth:`Recipe.load` takes.
        input_size: Size of an input that the model accepts; needed where a small square image is not one.

    Returns:
        The plan: for each layer the decision and the rule that decided it.

    Raises:
        RecipeError: If the recipe is malformed, names something unknown, has a pattern that matches nothing, or
            selects no layer.
    """
    return _Planner(model, Recipe.load(recipe), input_size).plan()


def binarize(model: nn.Module, recipe: RecipeLike, *, input_size: tuple[int, ...] | None = None) -> nn.Module:
    """Rewrites the convolutions that a recipe selects into their binary training form.

    In place; parameters keep their identity, their names and so their place in an optimiser. A module used in several
    places stays one module. Layers that are binary already are left as they are.

    Args:
        model: Any module.
        recipe: What :meth:`Recipe.load` takes.
        input_size: As in :func:`plan`.

    Returns:
        The model; a new module only where the model itself is a convolution that becomes binary.

    Raises:
        RecipeError: As :func:`plan`; also where the recipe has ``others``, which need torchao: see
            ``lmb_quant.integrations.torchao``.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3))
        >>> type(binarize(net, "lmb")[1]).__name__
        'BinaryConv2d'
    """
    recipe = Recipe.load(recipe)
    if recipe.others:
        raise RecipeError(
            "others: layers under torchao configs need torchao. Use quantize_(model, to_torchao(recipe, model), "
            "filter_fn=None) with lmb_quant.integrations.torchao.to_torchao."
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    for layer in plan(model, recipe, input_size=input_size).binary:
        conv = modules[layer.name]
        if isinstance(conv, BinaryConv2d):
            continue
        assert isinstance(conv, nn.Conv2d)
        assert layer.config is not None
        new = BinaryConv2d.from_float(conv, layer.config)
        for name in layer.names:
            if not name:
                return new
            parent, _, child = name.rpartition(".")
            setattr(modules[parent], child, new)
    return model


class _Planner:
    """Applies a recipe's rules to a model's layers."""

    def __init__(self, model: nn.Module, recipe: Recipe, input_size: tuple[int, ...] | None) -> None:
        self.recipe = recipe
        self.names: dict[nn.Module, tuple[str, ...]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self.names[module] = (*self.names.get(module, ()), name)
        self.structure = find_structure(model, input_size)
        self.absorbing = {
            f"{name}.{child}".lstrip(".")
            for name, module in model.named_modules()
            for child in getattr(module, "absorbs_skip_of", ())
        }

    def plan(self) -> Plan:
        layers = tuple(self._plan_layer(module) for module in self.names if _weights(module))
        self._check_patterns(layers)
        if not any(layer.config for layer in layers):
            reasons = "; ".join(f"{layer.name or '(the model itself)'}: {layer.rule}" for layer in layers[:8])
            more = "; ..." if len(layers) > 8 else ""
            raise RecipeError(f"{self.recipe.place}: selects no layer of {len(layers)}. {reasons}{more}")
        return Plan(self.recipe, layers, self.structure)

    def _plan_layer(self, module: nn.Module) -> PlannedLayer:
        names, weights = self.names[module], _weights(module)
        before = _bytes(module)
        shape = tuple(weights[0].shape)
        if isinstance(module, BinaryConv2d):
            after = module.packed_bytes
            return PlannedLayer(names, "BinaryConv2d", shape, "binary", "binary already", module.config, before, after)
        float_rule = self._float_rule(module)
        if float_rule is None:
            assert isinstance(module, nn.Conv2d)
            override = self._override(names)
            if override is None or not override.skip_layer:
                config = self._config(module, override)
                after = self._build(module, config).packed_bytes
                rule = f"override: {override.match}" if override else f"target: {self._target(names)}"
                return PlannedLayer(names, "Conv2d", shape, "binary", rule, config, before, after)
            float_rule = f"override: {override.match}: skip_layer"
        kind = type(module).__name__
        other = next((other for other in self.recipe.others if _any_match(other.match, names)), None)
        if other is None:
            return PlannedLayer(names, kind, shape, "float", float_rule, None, before, before)
        rule = f"others: {other.match}"
        return PlannedLayer(names, kind, shape, "torchao", rule, None, before, before, other.torchao)

    def _float_rule(self, module: nn.Module) -> str | None:
        """The rule that keeps a layer float; None where it may become binary."""
        names = self.names[module]
        if type(module) is not nn.Conv2d:
            kind = "a subclass of Conv2d" if isinstance(module, nn.Conv2d) else "not a Conv2d"
            return f"{type(module).__name__} is {kind}"
        if module.padding_mode != "zeros":
            return f"padding_mode {module.padding_mode!r} (only 'zeros' can be binary)"
        if "weight" not in module._parameters:
            return "its weight is computed from other tensors (weight_norm or the like)"
        for rule in self.recipe.ignore:
            if self.structure.has(rule, names[0], module) if rule.startswith("@") else _any_match(rule, names):
                return f"ignore: {rule}"
        return None if self._target(names) else "no target matches"

    def _target(self, names: tuple[str, ...]) -> str | None:
        return next((t for t in self.recipe.targets if t == "Conv2d" or _any_match(t, names)), None)

    def _override(self, names: tuple[str, ...]) -> Override | None:
        return next((override for override in self.recipe.overrides if _any_match(override.match, names)), None)

    def _config(self, conv: nn.Conv2d, override: Override | None) -> LayerConfig:
        scheme = self.recipe.scheme
        if override is None:
            override = Override(match="")
        activation, activation_options = _choose(scheme.activation, override.activation)
        weight, weight_options = _choose(scheme.weight, override.weight)
        unit = scheme.unit.model_dump()
        alpha = scheme.weight.scale
        if override.weight is not None and override.weight.scale is not None:
            alpha = override.weight.scale
        if override.unit is not None:
            unit |= override.unit.model_dump(exclude_none=True)
        return LayerConfig(
            activation=activation,
            activation_options=activation_options,
            weight=weight,
            weight_options=weight_options,
            alpha=alpha,
            norm=unit["norm"],
            act=unit["act"],
            skip=self._skip(conv, unit["skip"]),
        )

    def _skip(self, conv: nn.Conv2d, mode: str) -> bool:
        if mode == "none" or not _keeps_shape(conv):
            return False
        name = self.names[conv][0]
        return mode == "shape" or name not in self.structure.bypassed or name in self.absorbing

    def _build(self, conv: nn.Conv2d, config: LayerConfig) -> BinaryConv2d:
        try:
            return BinaryConv2d.from_float(conv, config)
        except LMBError as error:
            raise RecipeError(f"{self.recipe.place}: layer {self.names[conv][0]!r}: {error}") from None

    def _check_patterns(self, layers: tuple[PlannedLayer, ...]) -> None:
        """Raises for a pattern without effect; tokens describe a kind of layer, which a model may lack."""
        binary = [layer for layer in layers if layer.config or layer.rule.endswith(": skip_layer")]
        kept = [layer for layer in layers if not layer.config]
        sections = (
            ("targets", [t for t in self.recipe.targets if t != "Conv2d"], layers),
            ("ignore", [p for p in self.recipe.ignore if not p.startswith("@")], layers),
            ("overrides", [override.match for override in self.recipe.overrides], binary),
            ("others", [other.match for other in self.recipe.others], kept),
        )
        for section, patterns, reach in sections:
            for pattern in patterns:
                if any(_any_match(pattern, layer.names) for layer in reach):
                    continue
                hits = [f"{layer.name} ({layer.rule})" for layer in layers if _any_match(pattern, layer.names)]
                if hits:
                    state = "stay float" if section == "overrides" else "become binary"
                    what = f"matches only layers that {state} all the same: {', '.join(hits[:5])}."
                else:
                    what = f"matches no layer. {unknown_name('layer', pattern, [x.name for x in layers][:40])}"
                raise RecipeError(f"{self.recipe.place}: {section}: {pattern!r} {what}")


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """The module's own weights of two or more dimensions: those of convolutions, linear layers and the like."""
    return [p for p in module.parameters(recurse=False) if p.ndim >= 2]


def _bytes(module: nn.Module) -> int:
    return sum(4 * p.numel() for p in module.parameters(recurse=False))


def _any_match(pattern: str, names: tuple[str, ...]) -> bool:
    return any(matches(pattern, name) for name in names)


def _choose(base: BinarizerChoice, override: ActivationOverride | None) -> tuple[str, dict[str, Any]]:
    if override is None:
        return base.binarizer, base.options
    options = dict(override.model_extra or {})
    if override.binarizer is None or override.binarizer == base.binarizer:
        return base.binarizer, base.options | options
    return override.binarizer, options


def _keeps_shape(conv: nn.Conv2d) -> bool:
    if conv.in_channels != conv.out_channels or any(step > 1 for step in conv.stride):
        return False
    if isinstance(conv.padding, str):
        return conv.padding == "same"
    sizes = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    return all(2 * padding == dilation * (kernel - 1) for padding, dilation, kernel in sizes)
