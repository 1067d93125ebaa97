# SPDX-License-Identifier: Apache-2.0
"""A whole network in all the forms that are compared."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.archs import Architecture, architecture_called, architecture_of
from lmb_quant.errors import LMBError
from lmb_quant.modules import PackedBinaryConv2d, RPReLU, binary_convs, packed_convs
from lmb_quant.ops.binary_conv2d import reference
from lmb_quant.packing import convert, for_inference
from lmb_quant.rewrite import binarize, recipe_of
from lmb_quant.serialize import file_named, load
from lmb_quant.structure import copy_model

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Networks:
    """One network in float, by the definition of its binary layers, and packed; all channels-last, in eval mode.

    ``name`` is the architecture's, ``recipe`` what the packed form was made by. ``binary`` is the training form, or
    the packed one by the packed operator's reference. ``file`` is what was read, if one was.
    """

    name: str
    recipe: str
    arguments: dict[str, Any]
    floating: nn.Module
    binary: nn.Module
    packed: nn.Module
    file: bytes | None = None


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
    floating = _floating(known, arguments)
    binary = binarize(copy.deepcopy(floating), recipe)
    for conv in binary_convs(binary):
        if isinstance(conv.act, RPReLU):
            for parameter in conv.act.parameters():
                nn.init.uniform_(parameter, -0.25, 0.5)
        if conv.rescale is not None:
            for parameter in conv.rescale.parameters():
                nn.init.normal_(parameter, std=0.1)
    packed = convert(binary)
    return Networks(arch, recipe, arguments, for_inference(floating), for_inference(binary), packed)


def read_networks(name_or_file: str) -> Networks:
    """Reads a packed network; its float form has the same architecture and random parameters.

    Args:
        name_or_file: The name of a network that comes with the package, or its file.

    Raises:
        LMBError: If there is none, or its architecture is not of lmb_quant.archs or has no image of three channels.
    """
    with file_named(name_or_file) as path:
        packed, file = load(path), path.read_bytes()
    known = architecture_of(packed)
    if known is None:  # load() makes no others today
        raise LMBError(f"network: {type(packed).__name__} is not allowed. Allowed: an architecture of lmb_quant.archs.")
    arguments: dict[str, Any] = dict(packed.arch_args)  # type: ignore[arg-type]
    channels = arguments.get("num_in_ch", IMAGE_CHANNELS)
    if channels != IMAGE_CHANNELS:
        raise LMBError(f"network: num_in_ch {channels} is not allowed. Allowed: {IMAGE_CHANNELS}.")
    recipe = recipe_of(packed)
    name = "unknown" if recipe is None else recipe.metadata.name
    floating = for_inference(_floating(known, arguments))
    return Networks(known.short_name, name, arguments, floating, _by_reference(packed), packed, file)


class _ReferenceLayer(PackedBinaryConv2d):
    """A packed layer by the packed operator's reference."""

    def forward(self, input: Tensor, overwrite: bool = False) -> Tensor:
        return reference.binary_conv2d(input, self.arguments())


def _by_reference(packed: nn.Module) -> nn.Module:
    layers = {}
    for layer in packed_convs(packed):
        layers[layer] = _ReferenceLayer(layer.config)
        layers[layer].load_state_dict(layer.state_dict())
    return copy_model(packed, layers).eval()


def _floating(known: Architecture, arguments: dict[str, Any]) -> nn.Module:
    floating = known.make(**arguments, recipe=None)
    *others, last = [module for module in floating.modules() if isinstance(module, nn.Conv2d)]
    for conv in others[1:]:
        nn.init.normal_(conv.weight, std=0.006)  # small, or a bit that rounding turns would turn many of later layers
    nn.init.normal_(last.weight)  # it starts at 0; so large, what the body computes is most of the output
    return floating


def make_image(height: int, width: int) -> Tensor:
    """Float32 ``(1, 3, H, W)``, channels-last, [0, 1]: smooth with some noise, as photographs are."""
    coarse = torch.rand(1, IMAGE_CHANNELS, max(2, height // 16), max(2, width // 16))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    image = (smooth + 0.02 * torch.randn(1, IMAGE_CHANNELS, height, width)).clamp(0, 1)
    return image.contiguous(memory_format=torch.channels_last)
