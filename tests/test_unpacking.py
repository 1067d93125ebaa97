# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/unpacking.py, modules/unpacked.py: a packed network becomes a training form that packs to the same."""

import pytest
import torch
from helpers import recipe
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBHybridNet, LMBSRResNet
from lmb_quant.modules import binary_convs
from lmb_quant.packing import for_inference
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import remember_recipe


def packed(make=LMBSRResNet, of="lmb-spatial", **arguments):
    net = make(**{"num_feat": 12, "upscale": 2, "recipe": of} | arguments)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return lmb.convert(net)


NETWORKS = {
    "spatial": lambda: packed(num_block=2),
    "hybrid": lambda: packed(LMBHybridNet, "lmb-hybrid", num_block=2),
    "vdsr": lambda: packed(LMBVDSR, "lmb-plus", num_conv=3),
    "shift": lambda: packed(of="lmb-shift", num_block=1),
    "rsign": lambda: packed(of="rsign", num_block=1),
    "bbcu": lambda: packed(of="bbcu", num_block=1),
    "classic tail": lambda: packed(num_block=1, tail="classic"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_the_same_and_packs_to_the_same(name):
    net = NETWORKS[name]()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    training = lmb.unpack(net)
    assert training.training
    assert all(p.requires_grad for p in training.parameters())
    x = torch.rand(1, 3, 9, 8)
    assert torch.allclose(training.eval()(x), net(x), atol=1e-5)
    again = lmb.convert(training).state_dict()
    assert again.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(net.state_dict()[key], value), key
        if value.dtype == torch.uint8:
            assert torch.equal(again[key], value), key
        else:
            assert torch.allclose(again[key], value, rtol=1e-5, atol=1e-7), key


def test_it_trains():
    training = lmb.unpack(NETWORKS["hybrid"]())
    signs = [conv.weight.sign() for conv in binary_convs(training)]
    optimizer = torch.optim.Adam(training.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        training(torch.rand(1, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    flipped = [
        (conv.weight.sign() != old).float().mean() for conv, old in zip(binary_convs(training), signs, strict=True)
    ]
    assert all(share > 0 for share in flipped)


def test_a_channel_whose_scale_is_0_keeps_its_bits():
    net = NETWORKS["spatial"]()
    layer = net.body[0].conv1
    layer.weight_scale[2] = 0
    again = lmb.convert(lmb.unpack(net)).body[0].conv1
    assert torch.equal(again.weight_packed, layer.weight_packed)
    assert again.weight_scale[2] < 1e-7


def negative():
    net = NETWORKS["spatial"]()
    net.body[0].conv1.weight_scale[0] *= -1
    return net


def foreign():
    return lmb.convert(lmb.binarize(nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]), recipe()))


REFUSED = {
    "float": (lambda: LMBSRResNet(num_feat=8, num_block=1, recipe=None), "no packed layer"),
    "training form": (lambda: LMBSRResNet(num_feat=8, num_block=1), "no packed layer"),
    "another's": (foreign, "Sequential is none of lmb_quant.archs"),
    "batch norm": (lambda: packed(of="reactnet", num_block=1), r"layer 'body.0.conv1': its norm, 'batch', is folded"),
    "scale": (negative, r"layer 'body.0.conv1': weight_scale: its training form cannot be made again"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_training_form(name):
    make, error = REFUSED[name]
    with pytest.raises(LMBError, match=error):
        lmb.unpack(for_inference(make()))


def test_a_real_layer_of_another_shape_is_not_spread_over_the_old_one():
    net = NETWORKS["spatial"]()
    net.conv_first = nn.Conv2d(3, net.conv_first.out_channels, 1)
    with pytest.raises(LMBError, match=r"tensor 'conv_first.weight': shape \(\d+, 3, 1, 1\) .* Allowed: of"):
        lmb.unpack(net)
    net = NETWORKS["spatial"]()
    net.extra = nn.Conv2d(3, 3, 1)
    with pytest.raises(LMBError, match=r"tensor 'extra.weight': .* Allowed: one of LMB"):
        lmb.unpack(net)


def test_another_recipe_does_not_fit():
    net = NETWORKS["spatial"]()
    remember_recipe(net, Recipe.load("lmb"))
    with pytest.raises(LMBError, match=r"layer 'body.0.conv1': \w+: its training form cannot be made again"):
        lmb.unpack(net)
    remember_recipe(net, None)
    with pytest.raises(LMBError, match="its recipe is not known"):
        lmb.unpack(net)
