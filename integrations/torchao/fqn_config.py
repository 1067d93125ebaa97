# SPDX-License-Identifier: Apache-2.0
"""Recipes as torchao's FqnToConfig."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import nn

from lmb_quant.errors import LMBError, RecipeError, unknown_name
from lmb_quant.modules import BinaryConv2d
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import Plan, PlannedLayer, RecipeLike, plan, warn_about

from ._host import FqnToConfig, UnsupportedSchemeError, config_from_dict
from .config import STEPS, LMBConfig
from .network import LMBNetworkConfig
from .trial import ALLOWED, try_on_layer

if TYPE_CHECKING:
    from ._host import AOBaseConfig


def to_torchao(
    recipe: RecipeLike, model: nn.Module, input_size: tuple[int, ...] | None = None, *, step: str = "prepare"
) -> FqnToConfig:
    """Resolves a recipe on a model into torchao's config by exact layer names, for one step.

    ``quantize_(model, to_torchao(recipe, model), filter_fn=None)`` makes the network that ``binarize(model, recipe)``
    makes, bit for bit. The config holds no pattern, and a module used in several places stands under each of its
    names. The recipe's ``others`` are applied from step ``convert`` on: an int8 weight does not train.

    Args:
        recipe: What :meth:`Recipe.load` takes.
        model: Any module; it is not changed. For ``prepare`` the float network, for ``convert`` what ``prepare`` made
            of it, for ``prepare_for_loading`` either, also on the meta device.
        input_size: As in :func:`lmb_quant.plan`.
        step: As in :class:`LMBConfig`.

    Returns:
        The config; torchao's ``config_to_dict`` makes JSON of it.

    Raises:
        RecipeError: As :func:`lmb_quant.plan`; also if an entry of ``others`` is not a torchao config, changes nothing
            or does not run on a copy of its layer, or matches a module used in several places; or at ``convert`` if
            the recipe selects a layer that is not binary yet.
        LMBError: If the step is unknown.

    Example:
        A binary body, an int8 head and tail.

        >>> import os, tempfile, torch, lmb_quant as lmb
        >>> from lmb_quant.archs import LMBSRResNet
        >>> from torchao.core.config import config_to_dict
        >>> from torchao.quantization import IntxWeightOnlyConfig, quantize_
        >>> int8 = config_to_dict(IntxWeightOnlyConfig(weight_dtype=torch.int8))
        >>> others = [{"match": "conv_first", "torchao": int8}, {"match": "tail.*", "torchao": int8}]
        >>> recipe = lmb.Recipe.load(lmb.Recipe.load("lmb").to_dict() | {"others": others})
        >>> net = LMBSRResNet(num_feat=16, num_block=2, recipe=None)
        >>> quantize_(net, to_torchao(recipe, net), filter_fn=None)
        >>> net(torch.rand(1, 3, 8, 8)).square().mean().backward()  # and so on: training
        >>> quantize_(net, to_torchao(recipe, net, step="convert"), filter_fn=None)
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> lmb.save(net, path)
        >>> x = torch.rand(1, 3, 8, 8)
        >>> torch.equal(lmb.load(path)(x), net(x))
        True
    """
    recipe = Recipe.load(recipe)
    if step not in STEPS:
        raise LMBError(f"to_torchao: {unknown_name('step', step, STEPS)}")
    modules = dict(model.named_modules(remove_duplicate=False))
    planned = plan(model, recipe, input_size=input_size)
    if step == "convert":
        _check_binary(planned, modules, recipe)
    else:
        warn_about(planned, modules)
    configs: OrderedDict[str, AOBaseConfig | None] = OrderedDict()
    configs[""] = LMBNetworkConfig(recipe=recipe.to_yaml(), step=step)
    for layer in planned.layers:
        if layer.config is not None:
            configs.update(dict.fromkeys(layer.names, LMBConfig.from_layer(layer.config, step)))
        elif layer.torchao is not None:
            _check_one_place(layer, modules, recipe)
            other = _other(layer, recipe)
            _try_other(layer, modules[layer.name], other, recipe)
            configs.update(dict.fromkeys(layer.names if step != "prepare" else (), other))
    return FqnToConfig(fqn_to_config=configs)


def _check_binary(planned: Plan, modules: dict[str, nn.Module], recipe: Recipe) -> None:
    for layer in planned.binary:
        if not isinstance(modules[layer.name], BinaryConv2d):
            raise RecipeError(
                f"{recipe.place}: layer {layer.name!r} is not binary yet. Before step 'convert': "
                "quantize_(model, to_torchao(recipe, model), filter_fn=None), or binarize()."
            )


def _other(layer: PlannedLayer, recipe: Recipe) -> AOBaseConfig:
    try:
        return config_from_dict(layer.torchao)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{recipe.place}: {layer.rule}: {layer.torchao!r} is not a torchao config: {error}. "
            "Allowed: what torchao's config_to_dict gives."
        ) from None


def _try_other(layer: PlannedLayer, module: nn.Module, config: AOBaseConfig, recipe: Recipe) -> None:
    """At every step, so that a network is not trained for a config that would spoil it."""
    try:
        try_on_layer(module, config)
    except UnsupportedSchemeError as error:
        raise RecipeError(
            f"{recipe.place}: {layer.rule}: {type(config).__name__} cannot be used on layer {layer.name!r}, "
            f"{module}: {error}. Allowed: {ALLOWED}."
        ) from error


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
