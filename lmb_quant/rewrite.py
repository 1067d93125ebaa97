# SPDX-License-Identifier: Apache-2.0
"""plan() says what a recipe does to a model; binarize() does it."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from lmb_quant.binarizers import Chain, Place
from lmb_quant.errors import LMBError, RecipeError, unknown_name
from lmb_quant.modules import (
    IDENTITY,
    BinaryConv2d,
    LayerConfig,
    PackedBinaryConv2d,
    binary_convs,
    packed_convs,
    why_not_packed,
)
from lmb_quant.parts import keeps_size
from lmb_quant.recipe import Override, Recipe, Scheme
from lmb_quant.structure import Structure, find_structure, inside_binary
from lmb_quant.table import render
from lmb_quant.wrappers import unwrapped

RecipeLike = Recipe | Mapping[str, Any] | str | Path
_RECIPE = "_lmb_recipe"


@dataclass(frozen=True)
class PlannedLayer:
    """One row of a plan.

    Invariants: ``config`` is given exactly where ``decision`` is ``"binary"``; bytes are those of weight and bias in
    float32 before, and of the packed weight, its scale and the unit's float32 parameters after. ``is_skipped`` says
    whether nothing but an override's ``skip_layer`` keeps it from becoming binary.
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
    is_skipped: bool = False

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
        return render(title, columns, rows, right=(5, 6), total=True)


def matches(pattern: str, name: str) -> bool:
    """Whether a glob, or ``re:`` and a regular expression, matches a layer's whole name."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    return fnmatch.fnmatchcase(name, pattern)


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
            selects no layer; or the model is packed.
        TypeError: If ``model`` is not a module.
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
    planner = _Planner(model, recipe, input_size)
    planned, modules = planner.plan(), dict(model.named_modules(remove_duplicate=False))
    warn_about(planned, modules)
    applied = recipe_after(model, recipe)
    made = {}
    for layer in planned.binary:
        conv = modules[layer.name]
        if isinstance(conv, BinaryConv2d):
            made[layer.name] = conv
            continue
        made[layer.name] = new = planner.built[conv]
        for name in layer.names:
            if not name:
                remember_recipe(new, applied)
                return new
            model.set_submodule(name, new)
    _link(made)
    remember_recipe(model, applied)
    return model


def _link(layers: Mapping[str, BinaryConv2d]) -> None:
    """Gives binarisers that accumulate along the depth their places: consecutive layers of one module and one shape."""
    alike = [(name.rpartition(".")[0], conv.weight.shape, conv.config.chain) for name, conv in layers.items()]
    for (_, _, size), group in groupby(zip(alike, layers.values(), strict=True), key=itemgetter(0)):
        convs = [conv for _, conv in group] if size > 1 else []
        for start in range(0, len(convs), size):
            row = convs[start : start + size]
            for part in ("binarize_input", "binarize_weight"):
                chain = Chain()
                for i, conv in enumerate(row):
                    getattr(conv, part).place = Place(chain, is_first=i == 0, is_last=i == len(row) - 1)


def recipe_of(model: nn.Module) -> Recipe | None:
    """The recipe that made a network binary; it outlives a deep copy, convert(), save() and load().

    Args:
        model: What :func:`binarize`, ``convert``, ``load`` returned, or ``quantize_`` rewrote by a recipe.

    Returns:
        An equal recipe, or None where it is unknown: a float network, layers made binary one by one, by two recipes,
        or in a part of the network only.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3))
        >>> recipe_of(binarize(net, "lmb")).metadata.name
        'lmb'
    """
    data = vars(unwrapped(model)).get(_RECIPE)
    return None if data is None else Recipe.load(data)


def recipe_after(model: nn.Module, recipe: Recipe) -> Recipe | None:
    """The recipe that a network has once this one is applied: None where something else made it binary before.

    ``others`` are not compared: they leave binary layers alone.
    """
    before = recipe_of(model)
    if before is None:
        was_float = not any(binary_convs(model)) and not any(packed_convs(model))
        return recipe if was_float else None
    return recipe if before.model_copy(update={"others": recipe.others}) == recipe else None


def remember_recipe(model: nn.Module, recipe: Recipe | None) -> None:
    """Notes on a network the recipe that :func:`recipe_of` returns: a plain attribute, no part of the state dict."""
    vars(unwrapped(model))[_RECIPE] = None if recipe is None else recipe.to_dict()


def why_not_binary(module: nn.Module) -> str | None:
    """Says why a module cannot become binary whatever a recipe says; None where it can, or is binary already."""
    if any(is_lazy(p) for p in module.parameters(recurse=False)):
        return f"{type(module).__name__} has no weights yet; run the model once first"
    if isinstance(module, BinaryConv2d):
        return None
    if isinstance(module, nn.Conv2d) and "weight" not in module._parameters:
        return "its weight is computed from other tensors (weight_norm or the like)"
    if type(module) is not nn.Conv2d:
        kind = "a subclass of Conv2d" if isinstance(module, nn.Conv2d) else "not a Conv2d"
        return f"{type(module).__name__} is {kind}"
    if module.padding_mode != "zeros":
        return f"padding_mode {module.padding_mode!r} (only 'zeros' can be binary)"
    if module._modules or module._buffers or "forward" in vars(module) or module._load_state_dict_pre_hooks:
        return "it carries submodules, buffers, a forward or a load_state_dict hook of its own"
    beyond = why_not_packed(module)
    return None if beyond is None else f"it has no packed form: {beyond}"


def warn_about(planned: Plan, modules: Mapping[str, nn.Module], stacklevel: int = 3) -> None:
    """Warns of what a plan cannot know or mend: unknown parts of the network, and filters of zeros.

    Args:
        planned: The plan.
        modules: The model's modules by name.
        stacklevel: As in :func:`warnings.warn`; 3 blames the caller's caller.
    """
    if not planned.structure.found:
        warnings.warn(
            f"the parts of the network were found {planned.structure.how}; check plan()", stacklevel=stacklevel
        )
    weights = ((layer.name, modules[layer.name].weight) for layer in planned.binary)
    dead = [name for name, weight in weights if isinstance(weight, Tensor) and _has_zero_filter(weight)]
    if dead:
        names = ", ".join(dead[:5])
        warnings.warn(
            f"filters of zeros have the scale 0 and get no gradient; initialise or load the weights of: {names}",
            stacklevel=stacklevel,
        )


def _has_zero_filter(weight: Tensor) -> bool:
    return not weight.is_meta and not bool(weight.detach().flatten(1).any(dim=1).all())


class _Planner:
    """Applies a recipe's rules to a model's layers; ``built`` holds the binary form of those that become binary."""

    def __init__(self, model: nn.Module, recipe: Recipe, input_size: tuple[int, ...] | None) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: {model!r} is not allowed. Allowed: a torch.nn.Module.")
        packed = [name for name, module in model.named_modules() if isinstance(module, PackedBinaryConv2d)]
        if packed:
            raise RecipeError(
                f"model: layer {packed[0]!r} is packed already, for inference only. Allowed: a float network, or the "
                "training form that convert() was given."
            )
        self.recipe = recipe
        self.built: dict[nn.Module, BinaryConv2d] = {}
        self.names: dict[nn.Module, tuple[str, ...]] = {}
        inner = inside_binary(model)
        for name, module in model.named_modules(remove_duplicate=False):
            if module not in inner:
                self.names[module] = (*self.names.get(module, ()), name)
        self.structure = find_structure(model, input_size)
        self.held = _held_outside(model)
        self.tied: dict[nn.Module, str] = {}
        self.absorbing = {
            f"{name}.{child}".lstrip(".")
            for name, module in model.named_modules()
            for child in getattr(module, "absorbs_skip_of", ())
        }

    def plan(self) -> Plan:
        self._check_scheme()
        layers = self._plan_layers()
        if not layers:
            raise RecipeError(f"{self.recipe.place}: the model has no layer with weights.")
        self.tied = self._tied_to_float({layer.name for layer in layers if layer.config})
        if self.tied:
            layers = self._plan_layers()
        self._check_patterns(layers)
        if not any(layer.config for layer in layers):
            reasons = "; ".join(f"{layer.name or '(the model itself)'}: {layer.rule}" for layer in layers[:8])
            more = "; ..." if len(layers) > 8 else ""
            raise RecipeError(f"{self.recipe.place}: selects no layer of {len(layers)}. {reasons}{more}")
        return Plan(self.recipe, layers, self.structure)

    def _plan_layers(self) -> tuple[PlannedLayer, ...]:
        return tuple(self._plan_layer(module) for module in self.names if _weights(module))

    def _tied_to_float(self, binary: set[str]) -> dict[nn.Module, str]:
        """Layers that would become binary though another that stays float has the same weight, with its name."""
        kept = {
            id(parameter): names[0]
            for module, names in self.names.items()
            if names[0] not in binary
            for parameter in module.parameters(recurse=False)
        }
        convs = (module for module, names in self.names.items() if names[0] in binary)
        return {conv: kept[id(conv.weight)] for conv in convs if id(conv.weight) in kept}

    def _plan_layer(self, module: nn.Module) -> PlannedLayer:
        names, weights = self.names[module], _weights(module)
        before = _bytes(module)
        shape = () if is_lazy(weights[0]) else tuple(weights[0].shape)
        float_rule = self._float_rule(module)
        is_skipped = float_rule is None
        if float_rule is None:
            assert isinstance(module, nn.Conv2d)
            override = self._override(names)
            if override is None or not override.skip_layer:
                scheme = self.recipe.scheme if override is None else self.recipe.scheme.overridden(override)
                config = _layer_config(
                    scheme, skip=self._skip(module, scheme.unit.skip), ends_block=self._ends_block(names[0])
                )
                if module not in self.built:
                    self.built[module] = self._build(module, config, f"layer {names[0]!r}")
                new = self.built[module]
                rule = f"override: {override.match}" if override else f"target: {self._target(names)}"
                if isinstance(module, BinaryConv2d):
                    self._check_same(names[0], module, new)
                    rule = "binary already"
                return PlannedLayer(names, "Conv2d", shape, "binary", rule, new.config, before, new.packed_bytes)
            float_rule = f"override: {override.match}: skip_layer"
        if isinstance(module, BinaryConv2d):
            rule, after = "binary already", module.packed_bytes
            return PlannedLayer(names, "Conv2d", shape, "binary", rule, module.config, before, after)
        kind = type(module).__name__
        other = next((other for other in self.recipe.others if _any_match(other.match, names)), None)
        if other is None:
            return PlannedLayer(names, kind, shape, "float", float_rule, None, before, before, is_skipped=is_skipped)
        rule = f"others: {other.match}"
        return PlannedLayer(names, kind, shape, "torchao", rule, None, before, before, other.torchao, is_skipped)

    def _float_rule(self, module: nn.Module) -> str | None:
        """The rule that keeps a layer float; None where it may become binary."""
        names = self.names[module]
        reason = why_not_binary(module)
        if reason is not None:
            return reason
        if id(module) in self.held:
            return f"it is also held in {self.held[id(module)]}, where a rewrite cannot replace it"
        if names[0] in self.structure.idle:
            return "it did not run in the trial run, which is in eval mode"
        if names[0] in self.structure.written:
            return "the network's own forward writes its weight (a re-parameterised block); fold the blocks first"
        if module in self.tied:
            return f"its weight is also that of {self.tied[module]!r}, which stays float"
        for rule in self.recipe.ignore:
            if self.structure.has(rule, names[0], module) if rule.startswith("@") else _any_match(rule, names):
                return f"ignore: {rule}"
        return None if self._target(names) else "no target matches"

    def _target(self, names: tuple[str, ...]) -> str | None:
        return next((t for t in self.recipe.targets if t == "Conv2d" or _any_match(t, names)), None)

    def _override(self, names: tuple[str, ...]) -> Override | None:
        return next((override for override in self.recipe.overrides if _any_match(override.match, names)), None)

    def _skip(self, conv: nn.Conv2d, mode: str) -> bool:
        if mode == "none" or not keeps_shape(conv):
            return False
        name = self.names[conv][0]
        return mode == "shape" or name not in self.structure.bypassed or name in self.absorbing

    def _ends_block(self, name: str) -> bool:
        return name in self.structure.bypassed or name in self.absorbing

    def _build(self, conv: nn.Conv2d, config: LayerConfig, where: str) -> BinaryConv2d:
        try:
            return BinaryConv2d.from_float(conv, config)
        except LMBError as error:
            raise RecipeError(f"{self.recipe.place}: {where}: {error}") from None

    def _check_same(self, name: str, old: BinaryConv2d, new: BinaryConv2d) -> None:
        if old.config != new.config:
            raise RecipeError(
                f"{self.recipe.place}: layer {name!r} is binary already, in another way: {old.config}. "
                f"This recipe asks for: {new.config}. Start from the float network."
            )

    def _check_scheme(self) -> None:
        """Raises for an unknown name in the scheme, also where every layer overrides it."""
        with torch.random.fork_rng():
            self._build(nn.Conv2d(1, 1, 1), _layer_config(self.recipe.scheme), "scheme")

    def _check_patterns(self, layers: tuple[PlannedLayer, ...]) -> None:
        """Raises for a pattern without effect; tokens describe a kind of layer, which a model may lack."""
        binary = [layer for layer in layers if layer.config or layer.is_skipped]
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
        for i, override in enumerate(self.recipe.overrides):
            if not any(self._override(layer.names) is override for layer in binary):
                raise RecipeError(
                    f"{self.recipe.place}: overrides[{i}]: {override.match!r} never decides: earlier overrides match "
                    "all layers that it matches, and the first match wins."
                )


def _weights(module: nn.Module) -> list[Tensor]:
    """The module's own weights of two or more dimensions: those of convolutions, linear layers and the like."""
    if isinstance(module, ParametrizationList):
        return []  # listed as the layer that it belongs to
    if isinstance(module, nn.Conv2d) and "weight" not in module._parameters:
        return [module.weight]
    return [p for p in module.parameters(recurse=False) if is_lazy(p) or p.ndim >= 2]


def _held_outside(model: nn.Module) -> dict[int, str]:
    """Convolutions that a plain attribute, list, tuple or dict of some module refers to, by id, with the place."""
    held = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key.startswith("_"):
                continue
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
            )
            for item in inside:
                if isinstance(item, nn.Conv2d):
                    held[id(item)] = f"the plain attribute {f'{name}.{key}'.lstrip('.')!r}"
    return held


def _bytes(module: nn.Module) -> int:
    return sum(4 * p.numel() for p in module.parameters(recurse=False) if not is_lazy(p))


def _any_match(pattern: str, names: tuple[str, ...]) -> bool:
    return any(matches(pattern, name) for name in names)


def _layer_config(scheme: Scheme, *, skip: bool = False, ends_block: bool = False) -> LayerConfig:
    unit, rescale = scheme.unit, scheme.rescale
    keeps_act = unit.act_on != "inner_sum" or not ends_block
    return LayerConfig(
        activation=scheme.activation.binarizer,
        activation_options=scheme.activation.options,
        weight=scheme.weight.binarizer,
        weight_options=scheme.weight.options,
        alpha=scheme.weight.scale,
        norm=unit.norm,
        act=unit.act if keeps_act else IDENTITY,
        skip=skip,
        act_on="branch" if unit.act_on in (None, "branch") else "sum",
        pre_norm=unit.pre_norm or "none",
        rescale="none" if rescale is None else rescale.rescaler,
        rescale_options={} if rescale is None else rescale.options,
        chain=unit.chain or 1,
    )


def keeps_shape(conv: nn.Conv2d) -> bool:
    """Whether a convolution's output has the shape of its input, whatever that is."""
    return conv.in_channels == conv.out_channels and keeps_size(conv)
