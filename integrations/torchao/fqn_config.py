# SPDX-License-Identifier: Apache-2.0
"""Recipes as torchao's FqnToConfig."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import nn

from lmb_quant.errors import RecipeError
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import PlannedLayer, RecipeLike, plan, warn_about

from ._host import FqnToConfig, config_from_dict
from .config import LMBConfig

if TYPE_CHECKING:
    from ._host import AOBaseConfig


def to_torchao(recipe: RecipeLike, model: nn.Module, input_size: tuple[int, ...] | None = None) -> FqnToConfig:
    """Resolves a recipe on a model into torchao's config by exact layer names.

    ``quantize_(model, to_torchao(recipe, model), filter_fn=None)`` makes the network that
    ``binarize(model, recipe)`` makes, bit for bit, and applies the recipe's ``others`` as well. The config holds no
    pattern, and a module used in several places stands under each of its names.

    Args:
        recipe: What :meth:`Recipe.load` takes.
        model: Any module; it is not changed.
        input_size: As in :func:`lmb_quant.plan`.

    Returns:
        The config; torchao's ``config_to_dict`` makes JSON of it.

    Raises:
        RecipeError: As :func:`lmb_quant.plan`; also if an entry of ``others`` is not a torchao config, or matches a
            module used in several places.
    """
    recipe = Recipe.load(recipe)
    modules = dict(model.named_modules(remove_duplicate=False))
    configs: OrderedDict[str, AOBaseConfig | None] = OrderedDict()
    planned = plan(model, recipe, input_size=input_size)
    warn_about(planned, modules)
    for layer in planned.layers:
        if layer.config is not None:
            configs.update(dict.fromkeys(layer.names, LMBConfig.from_layer(layer.config)))
        elif layer.torchao is not None:
            _check_one_place(layer, modules, recipe)
            configs.update(dict.fromkeys(layer.names, _other(layer, recipe)))
    return FqnToConfig(fqn_to_config=configs)


def _other(layer: PlannedLayer, recipe: Recipe) -> AOBaseConfig:
    try:
        return config_from_dict(layer.torchao)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{recipe.place}: {layer.rule}: {layer.torchao!r} is not a torchao config: {error}. "
            "Allowed: what torchao's config_to_dict gives."
        ) from None


def _check_one_place(layer: PlannedLayer, modules: dict[str, nn.Module], recipe: Recipe) -> None:
    """A torchao config may replace the module, and torchao would replace it in the first place only."""
    places: dict[tuple[int, str], str] = {}
    for name in layer.names:
        parent, _, child = name.rpartition(".")
        places.setdefault((id(modules[parent]), child), name)
    if len(places) > 1:
        raise RecipeError(
            f"{recipe.place}: {layer.rule}: {' and '.join(map(repr, places.values()))} are one module, which torchao "
            "may change in the first place only. Allowed: layers used in one place."
        )
