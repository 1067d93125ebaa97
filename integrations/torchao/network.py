# SPDX-License-Identifier: Apache-2.0
"""LMBNetworkConfig: what a recipe does to the network around its layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.modules import BinaryConv2d
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import recipe_after, remember_recipe

from ._host import AOBaseConfig, register_quantize_module_handler
from .config import STEPS

_VERSION = 1


@dataclass(kw_only=True)
class LMBNetworkConfig(AOBaseConfig):
    """The entry that :func:`to_torchao` makes for the network as a whole, under the name ''.

    The network remembers its recipe (:func:`lmb_quant.recipe_of`). For the packed form it is made ready for inference
    as by :func:`lmb_quant.convert`: eval mode, no gradients, float convolutions channels-last.

    ``recipe`` is YAML text: torchao would read the torchao configs in a mapping as such. ``step`` as in
    :class:`LMBConfig`; ``version`` is that of these fields.

    Raises:
        LMBError: If a value is not allowed.
    """

    recipe: str
    step: str = "prepare"
    version: int = _VERSION

    def __post_init__(self) -> None:
        if self.version != _VERSION:
            raise LMBError(f"LMBNetworkConfig: version: {self.version!r} is not allowed. Allowed: {_VERSION}.")
        if self.step not in STEPS:
            raise LMBError(f"LMBNetworkConfig: {unknown_name('step', self.step, STEPS)}")
        Recipe.load(self.recipe)


@register_quantize_module_handler(LMBNetworkConfig)
def apply_to_network(module: nn.Module, config: LMBNetworkConfig) -> nn.Module:
    """Notes the recipe on the network, and makes it ready where it becomes the packed form; in place.

    torchao visits it before its layers. So training forms keep the strides of their weights, and with them the rounding
    of their scales.
    """
    remember_recipe(module, recipe_after(module, Recipe.load(config.recipe)))
    if config.step != "prepare":
        module.eval().requires_grad_(False)
        for part in module.modules():
            if not isinstance(part, BinaryConv2d) and not any(part.children()):
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module
