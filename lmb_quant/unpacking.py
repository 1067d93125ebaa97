# SPDX-License-Identifier: Apache-2.0
"""unpack(): a packed network to its training form, to be trained on."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from lmb_quant.archs import ARCHITECTURES, architecture_of
from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d, packed_convs_by_name, unpack_into
from lmb_quant.rewrite import recipe_of
from lmb_quant.wrappers import unwrapped


def unpack(model: nn.Module) -> nn.Module:
    """Makes the training form of a packed network again: what :func:`lmb_quant.convert` would pack to the same.

    It computes what the packed network computes. The latent weights, which a packed network does not hold, become their
    signs times the scale of their channel. So training goes on from the same picture, but not along the same way.

    Args:
        model: A packed network of lmb_quant.archs, as :func:`lmb_quant.load` gives it; it is not changed.

    Returns:
        A new network in training mode, on the CPU.

    Raises:
        LMBError: If it is not packed, is none of lmb_quant.archs, its recipe is unknown, or a layer cannot be taken
            apart: those with a batch norm, which is folded into them.
        TypeError: If ``model`` is not a module.

    Example:
        >>> network = lmb_quant.unpack(lmb_quant.from_pretrained("lmb_small_x4"))
        >>> network.training
        True

    Source:
        This project's choice.
    """
    model = unwrapped(model)
    layers = packed_convs_by_name(model)
    if not layers:
        raise LMBError("model: it has no packed layer. Allowed: what convert(), load() or from_pretrained() gave.")
    arch, recipe = architecture_of(model), recipe_of(model)
    if arch is None or recipe is None:
        lacks = f"{type(model).__name__} is none of lmb_quant.archs" if arch is None else "its recipe is not known"
        raise LMBError(f"model: {lacks}. Allowed: {', '.join(ARCHITECTURES)} with a recipe.")
    network = arch.make(**cast(dict[str, Any], model.arch_args), recipe=recipe)
    for name, layer in layers.items():
        conv = network.get_submodule(name)
        try:
            if not isinstance(conv, BinaryConv2d):
                raise LMBError(f"the recipe makes {type(conv).__name__} of it, not a binary convolution.")
            unpack_into(conv, layer)
        except LMBError as error:
            raise LMBError(f"layer {name!r}: {error}") from None
    inside = tuple(f"{name}." for name in layers)
    _copy({name: value for name, value in model.state_dict().items() if not name.startswith(inside)}, network)
    return network.train()


@torch.no_grad()
def _copy(values: dict[str, Tensor], network: nn.Module) -> None:
    state = network.state_dict()
    for name, value in values.items():
        if type(value.detach()) is not Tensor:
            raise LMBError(f"tensor {name!r}: {type(value).__name__} is not trained on. Allowed: plain tensors.")
        if name not in state or state[name].shape != value.shape:
            allowed = f"of shape {tuple(state[name].shape)}" if name in state else f"one of {type(network).__name__}"
            raise LMBError(f"tensor {name!r}: shape {tuple(value.shape)} is not allowed. Allowed: {allowed}.")
        state[name].copy_(value)
