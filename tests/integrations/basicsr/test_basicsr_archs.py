# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/archs.py: LMBBinarized around everything that BasicSR registers and that builds here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lmb_quant.archs import ARCHITECTURES
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr import LMBBinarized
from lmb_quant.integrations.basicsr.archs import registered
from lmb_quant.modules import binary_convs

from basicsr.utils.registry import ARCH_REGISTRY

RGB = {"num_in_ch": 3, "num_out_ch": 3}
SINGLE: dict[str, dict[str, Any]] = {
    "MSRResNet": {**RGB, "num_feat": 8, "num_block": 1, "upscale": 4},
    "EDSR": {**RGB, "num_feat": 8, "num_block": 1, "upscale": 4},
    "RCAN": {**RGB, "num_feat": 8, "num_group": 1, "num_block": 1, "squeeze_factor": 4, "upscale": 4},
    "RRDBNet": {**RGB, "num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "SRVGGNetCompact": {**RGB, "num_feat": 8, "num_conv": 2, "upscale": 4},
    "SwinIR": {
        "upscale": 4,
        "img_size": 16,
        "window_size": 8,
        "depths": [1],
        "embed_dim": 12,
        "num_heads": [2],
        "upsampler": "pixelshuffle",
    },
    "RIDNet": {"in_channels": 3, "mid_channels": 16, "out_channels": 3},
    "ECBSR": {**RGB, "num_block": 2, "num_channel": 8, "with_idt": False, "act_type": "prelu", "scale": 4},
    "UNetDiscriminatorSN": {"num_in_ch": 3, "num_feat": 8},
    **{name: {**RGB, "num_feat": 8, known.count: 2, "recipe": None} for name, known in ARCHITECTURES.items()},
}
# What LMBBinarized refuses, with a message, because a recipe finds nothing to binarise in it.
NOTHING_TO_BINARIZE = ("ECBSR", "UNetDiscriminatorSN")


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("name", SINGLE)
def test_registered_architectures_are_binarised(name: str) -> None:
    arch = {"type": name, **SINGLE[name]}
    if name in NOTHING_TO_BINARIZE:
        with pytest.raises(LMBError, match="selects no layer"):
            LMBBinarized(arch)
        return
    net = LMBBinarized(arch, recipe="lmb")
    assert list(binary_convs(net))
    x = torch.rand(1, 3, 16, 16)
    y = net(x)
    y.mean().backward()
    float_net = LMBBinarized(arch, recipe=None)
    assert float_net(x).shape == y.shape
    net.load_state_dict(float_net.state_dict())


def test_every_other_registered_architecture_is_known() -> None:
    """A name that BasicSR adds has to be put into the table above, or here with the reason."""
    video = {"BasicVSR", "BasicVSRPlusPlus", "DUF", "EDVR", "IconVSR", "TOFlow", "SpyNet"}
    generative = {"DFDNet", "HiFaceGAN", "HiFaceGANDiscriminator", "StyleGAN2Discriminator", "StyleGAN2Generator"}
    heads = {"VGGFeatureExtractor", "VGGStyleDiscriminator"}
    ours = {"LMBBinarized", "LMBHeInit", "LMBInt8", "Bicubic"}
    names = {name.removesuffix("_basicsr") for name in ARCH_REGISTRY.keys()}  # noqa: SIM118 - not a mapping
    assert names - set(SINGLE) - video - generative - heads - ours == set()


@pytest.mark.parametrize("name", ["HiFaceGAN", "VGGStyleDiscriminator", "StyleGAN2Discriminator", "DUF", "TOFlow"])
def test_other_architectures_are_binarised_or_refused_by_name(name: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "HiFaceGAN": {"num_in_ch": 3, "num_feat": 8, "use_vae": False, "z_dim": 16, "crop_size": 64},
        "VGGStyleDiscriminator": {"num_in_ch": 3, "num_feat": 8, "input_size": 128},
        "StyleGAN2Discriminator": {"out_size": 16, "narrow": 0.25},
        "DUF": {"scale": 4, "num_layer": 16},
        "TOFlow": {},
    }
    try:
        net = LMBBinarized({"type": name, **arguments[name]})
    except LMBError as error:
        said = str(error)
    else:
        said = "binary" if list(binary_convs(net)) else "nothing became binary"
    assert any(text in said for text in ("selects no layer", "input_size", "binary"))
    assert said != "nothing became binary"


def test_unknown_architectures_and_recipes() -> None:
    with pytest.raises(LMBError, match=r"unknown architecture 'MSRResnet'. Did you mean 'MSRResNet'"):
        LMBBinarized({"type": "MSRResnet"})
    with pytest.raises(LMBError, match="unknown recipe 'lbm'"):
        LMBBinarized({"type": "MSRResNet", **SINGLE["MSRResNet"]}, recipe="lbm")
    assert registered(ARCH_REGISTRY, "SRVGGNetCompact") is not None
    assert registered(ARCH_REGISTRY, "nothing") is None
