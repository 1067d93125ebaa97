# SPDX-License-Identifier: Apache-2.0
"""A whole network in all the forms that are compared."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.archs import architecture_called
from lmb_quant.modules import RPReLU, binary_convs
from lmb_quant.packing import convert
from lmb_quant.rewrite import binarize


@dataclass(frozen=True)
class Networks:
    """One network in float, in the binary training form, and packed; all channels-last, in eval mode."""

    name: str
    arguments: dict[str, Any]
    floating: nn.Module
    binary: nn.Module
    packed: nn.Module


def empty_network(arch: str, arguments: dict[str, Any]) -> nn.Module:
    """The float network without memory for its parameters."""
    with torch.device("meta"):
        return architecture_called(arch).make(**arguments, recipe=None)


def make_networks(arch: str, blocks: int | None, num_feat: int, recipe: str = "lmb") -> Networks:
    """Makes a network for SR factor 4 with random parameters, the same weights in all forms.

    Args:
        arch: Short name of an architecture, whose other arguments are its defaults.
        blocks: How many parts the body has, such as residual blocks; None for the architecture's default.
        num_feat: Channels of the body.
        recipe: Name or file of the recipe of the binary form; its layers must pack.

    Raises:
        LMBError: If the architecture or the recipe is unknown, or a layer has no packed form.
    """
    known = architecture_called(arch)
    arguments = {"num_feat": num_feat, known.count: known.default_count if blocks is None else blocks, "upscale": 4}
    floating = known.make(**arguments, recipe=None)
    *others, last = [module for module in floating.modules() if isinstance(module, nn.Conv2d)]
    for conv in others[1:]:
        nn.init.normal_(conv.weight, std=0.006)  # small, or a bit that rounding turns would turn many of later layers
    nn.init.normal_(last.weight)  # it starts at 0; so large, what the body computes is most of the output
    binary = binarize(copy.deepcopy(floating), recipe)
    for conv in binary_convs(binary):
        if isinstance(conv.act, RPReLU):
            for parameter in conv.act.parameters():
                nn.init.uniform_(parameter, -0.25, 0.5)
        if conv.rescale is not None:
            for parameter in conv.rescale.parameters():
                nn.init.normal_(parameter, std=0.1)
    packed = convert(binary)
    for network in (floating, binary):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval().requires_grad_(False)
    return Networks(arch, arguments, floating, binary, packed)


def make_image(height: int, width: int) -> Tensor:
    """Float32 ``(1, 3, H, W)``, channels-last, [0, 1]: smooth with some noise, as photographs are."""
    coarse = torch.rand(1, 3, max(2, height // 16), max(2, width // 16))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    image = (smooth + 0.02 * torch.randn(1, 3, height, width)).clamp(0, 1)
    return image.contiguous(memory_format=torch.channels_last)
