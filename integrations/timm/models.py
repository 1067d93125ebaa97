# SPDX-License-Identifier: Apache-2.0
"""ResNets for classification, binarised by the recipes of super-resolution, as timm models."""

from __future__ import annotations

from typing import Any

from torch import nn

from lmb_quant.errors import LMBError
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import RecipeLike, binarize

from ._host import create_model, register_model


def _binary(name: str, pretrained: bool, recipe: RecipeLike, options: dict[str, Any]) -> nn.Module:
    """The float network ``name``, with PReLU where it has ReLU, binarised.

    Stem, 1x1 convolutions and classifier stay float. A classifier's last layer is its Linear one, so the recipe's
    ``@last``, which means the last convolutions, is left out. Behind a ReLU every plain sign is +1, hence the PReLU.
    """
    if pretrained:
        raise LMBError(
            f"lmb_{name}: pretrained: True is not allowed: there are no trained weights. To start from timm's float "
            f"ones: binarize(timm.create_model({name!r}, pretrained=True), recipe)."
        )
    recipe = Recipe.load(recipe)
    recipe = recipe.model_copy(update={"ignore": [pattern for pattern in recipe.ignore if pattern != "@last"]})
    options.setdefault("act_layer", "prelu")
    options = {key: value for key, value in options.items() if not key.startswith("pretrained_cfg")}
    return binarize(create_model(name, **options), recipe)


@register_model
def lmb_resnet18(pretrained: bool = False, recipe: RecipeLike = "lmb", **options: Any) -> nn.Module:
    """ResNet-18 with 16 binary convolutions; ``timm.create_model("resnet18", act_layer="prelu")`` is its float form.

    Args:
        pretrained: Must be false.
        recipe: What :meth:`Recipe.load` takes; ``"sign"`` is the control.
        options: timm's, such as ``num_classes`` or ``in_chans``.

    Raises:
        LMBError: If ``pretrained`` is true.
        RecipeError: As :func:`lmb_quant.binarize`.

    Source:
        What stays float: as in Bi-Real Net, arXiv 1808.00278. PReLU in place of ReLU: this project's choice.
    """
    return _binary("resnet18", pretrained, recipe, options)


@register_model
def lmb_resnet34(pretrained: bool = False, recipe: RecipeLike = "lmb", **options: Any) -> nn.Module:
    """ResNet-34 with 32 binary convolutions; otherwise as :func:`lmb_resnet18`."""
    return _binary("resnet34", pretrained, recipe, options)
