# SPDX-License-Identifier: Apache-2.0
"""convert(): the training form of a network to its packed inference form."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d, packed_convs
from lmb_quant.rewrite import recipe_of, remember_recipe
from lmb_quant.structure import copy_model
from lmb_quant.wrappers import unwrapped


def convert(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Packs every binary convolution of a network: 1-bit weights in memory, XNOR-popcount kernels at run time.

    The result is for inference: in eval mode, its parameters ask for no gradient, and its float convolutions are
    channels-last, as packed layers are. A module used in several places stays one module; layers that are packed
    already are left as they are. A wrapper around it (DataParallel, AveragedModel, torch.compile) is left out.

    Args:
        model: A network that :func:`lmb_quant.binarize` rewrote.
        inplace: Whether to rewrite ``model`` itself; else a copy, and ``model`` is not changed.

    Returns:
        The packed network; a new module even in place where the model itself is a binary convolution.

    Raises:
        LMBError: If there is no binary convolution, or one has no packed form; then ``model`` is not changed.
        TypeError: If ``model`` is not a module.
    """
    model = unwrapped(model)
    packed: dict[nn.Module, PackedBinaryConv2d] = {}
    for name, module in model.named_modules():
        if isinstance(module, BinaryConv2d):
            try:
                packed[module] = PackedBinaryConv2d.from_binary(module)
            except LMBError as error:
                raise LMBError(f"layer {name!r}: {error}") from None
    if not packed and not any(packed_convs(model)):
        raise LMBError("model: it has no binary convolution to pack. Use binarize() first.")
    recipe = recipe_of(model)
    if packed and recipe is not None and recipe.others:
        warnings.warn(
            "the recipe's others are left float here: quantize_(model, to_torchao(recipe, model, step='convert'), "
            "filter_fn=None) packs and applies them, with lmb_quant.integrations.torchao.to_torchao",
            stacklevel=2,
        )
    if not inplace:  # the packed layers take the place of the training forms in the copy
        model = copy_model(model, packed)
    elif model in packed:
        model = packed[model]
    else:
        for name, module in list(model.named_modules(remove_duplicate=False)):
            if module in packed:
                model.set_submodule(name, packed[module])
    remember_recipe(model, recipe)
    return for_inference(model)


def for_inference(model: nn.Module) -> nn.Module:
    """A packed network as it runs: eval mode, no gradients, float convolutions in the memory format of packed ones."""
    channels_last: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return channels_last.eval().requires_grad_(False)
