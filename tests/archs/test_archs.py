# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/archs: what is peculiar to each architecture; what all keep is in test_contract.py."""

import pytest
import torch
from helpers import binary, recipe
from torch import nn
from torch.nn import functional as F

from lmb_quant import LMBError, RecipeError, convert, summary
from lmb_quant.archs import LMBVDSR, LMBHybridNet, LMBSRResNet
from lmb_quant.modules import BinaryConv2d
from lmb_quant.ops.resample import upscale_image
from lmb_quant.stages import forward


def srresnet(**options):
    return LMBSRResNet(**({"num_feat": 8, "num_block": 2, "upscale": 2} | options))


def hybrid(**options):
    return LMBHybridNet(**({"num_feat": 8, "num_block": 2, "upscale": 2} | options))


def vdsr(**options):
    return LMBVDSR(**({"num_feat": 8, "num_conv": 3, "upscale": 2} | options))


@pytest.mark.parametrize("name", [None, "lmb", "sign"], ids=str)
@pytest.mark.parametrize("upscale", [2, 3, 4])
@pytest.mark.parametrize("tail", ["pointwise", "classic"])
def test_size_and_gradients_of_the_other_tails(tail, upscale, name):
    net = srresnet(tail=tail, upscale=upscale, recipe=name)
    for parameter in net.parameters():  # the last layer starts at zero: nothing would reach the body
        if parameter.ndim == 4 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    y = net(torch.rand(2, 3, 7, 9))
    assert y.shape == (2, 3, 7 * upscale, 9 * upscale)
    y.square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key


@pytest.mark.parametrize(("make", "mode"), [(srresnet, "bilinear"), (vdsr, "bicubic")])
@pytest.mark.parametrize("name", [None, "lmb"], ids=str)
def test_starts_as_the_upscaled_image(make, mode, name):
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(make(recipe=name)(x), F.interpolate(x, scale_factor=2, mode=mode, align_corners=False))


def test_vdsr_takes_images_that_are_enlarged_already():
    inside, before = vdsr(upscale=3), vdsr(upscale=1)
    nn.init.normal_(inside.conv_last.weight, std=0.1)
    before.load_state_dict(inside.state_dict())
    x = torch.rand(1, 3, 7, 6)
    enlarged = upscale_image(x, 3, "bicubic")
    kept = enlarged.clone()
    assert torch.equal(before(enlarged), inside(x))
    assert torch.equal(enlarged, kept)
    packed = convert(before.eval())
    assert torch.allclose(forward(packed, enlarged), packed(enlarged), atol=1e-5)


def test_which_layers_are_binary():
    assert binary(srresnet()) == ["body.0.conv1", "body.0.conv2", "body.1.conv1", "body.1.conv2"]
    assert binary(srresnet(tail="classic"))[:4] == binary(srresnet(tail="pointwise")) == binary(srresnet())
    assert binary(vdsr()) == ["body.0", "body.1", "body.2"]
    assert binary(srresnet(recipe=None)) == binary(vdsr(recipe=None)) == []


def test_every_binary_convolution_has_a_skip_and_the_block_adds_none():
    net = srresnet()
    assert all(layer.config.skip for layer in net.modules() if isinstance(layer, BinaryConv2d))
    block, x = net.body[0], torch.randn(1, 8, 5, 5)
    assert torch.equal(block(x), block.conv2(block.conv1(x)))


@pytest.mark.parametrize("kept", ["conv1", "conv2"])
def test_the_block_keeps_its_identity_path_where_one_convolution_is_float(kept):
    net = srresnet(recipe=recipe(overrides=[{"match": f"body.*.{kept}", "skip_layer": True}]))
    block = net.body[0]
    with torch.no_grad():
        for layer in (block.conv1, block.conv2):
            layer.weight.zero_()
            layer.bias.zero_()
    shift = torch.full((1, 8, 5, 5), 1e3)
    x = torch.rand(1, 8, 5, 5)
    assert bool(((block(x + shift) - block(x)).abs() > 500).all()), "the input does not reach the output"


def test_float_act_is_used_where_the_unit_has_none():
    net = srresnet(recipe=recipe(unit={"act": "none", "skip": "none"}))
    seen = []
    net.body[0].act.register_forward_hook(lambda *_: seen.append(1))
    net(torch.rand(1, 3, 6, 6))
    assert seen == [1]


def test_light_tail_costs_less_than_the_binary_body_saves():
    tails = ("pointwise", "light", "classic")
    pointwise, light, classic = (summary(srresnet(tail=tail, num_feat=64, upscale=4)).ops for tail in tails)
    assert pointwise < light < classic / 5


@pytest.mark.parametrize(("num_binary", "num_real"), [(1, 1), (2, 0), (0, 2), (1, 2)])
def test_the_hybrid_has_its_units_in_order_and_the_real_ones_stay_real(num_binary, num_real):
    net = hybrid(num_binary=num_binary, num_real=num_real, recipe="lmb-hybrid" if num_binary else None)
    kinds = ["DenseUnit"] * num_binary + ["SeparableUnit"] * num_real
    assert [type(unit).__name__ for unit in net.body] == 2 * kinds
    assert binary(net) == [f"body.{i}.conv" for i, kind in enumerate(2 * kinds) if kind == "DenseUnit"]


@pytest.mark.parametrize("name", [None, "lmb-hybrid"], ids=str)
def test_each_unit_of_the_hybrid_adds_its_input(name):
    net, shift, x = hybrid(recipe=name), torch.full((1, 8, 5, 5), 1e3), torch.rand(1, 8, 5, 5)
    for unit in net.body:
        with torch.no_grad():
            for key, parameter in unit.named_parameters():
                if parameter.ndim == 4 or "bias" in key:
                    parameter.zero_()
            assert torch.allclose(unit(x.clone()), x, atol=1e-6)
            assert bool((unit(x + shift) > 900).all())


def test_the_control_without_a_binary_convolution_trains():
    net = hybrid(num_binary=0, num_real=1, kernel_size=5, groups=2, recipe=None)
    assert net.body[0].depthwise.kernel_size == (5, 5)
    assert net.body[0].pointwise.groups == 2
    net(torch.rand(1, 3, 6, 6)).mean().backward()
    assert summary(net).ops > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_binary": -1}, "num_binary: -1 is not allowed. Allowed: a whole number above 0"),
        ({"num_binary": 0, "num_real": 0}, "num_binary: 0 is not allowed"),
        ({"kernel_size": 4}, "kernel_size: 4 is not allowed. Allowed: an odd number"),
        ({"groups": 3}, "groups: 3 is not allowed. Allowed: a divisor of num_feat, 8"),
        ({"tail": "classic"}, "unknown tail 'classic'. Allowed: light, pointwise"),
    ],
)
def test_arguments_of_the_hybrid_that_are_not_allowed(options, message):
    with pytest.raises(LMBError, match=message):
        hybrid(**options)


def test_recipe_as_dict_and_path(tmp_path):
    path = tmp_path / "r.yaml"
    from lmb_quant import Recipe

    path.write_text(Recipe.load("sign").to_yaml())
    for source in (recipe("sign"), path, str(path)):
        assert srresnet(recipe=source).body[0].conv1.config.activation == "sign"


def test_bad_arguments_of_one():
    allowed = "classic, light, pointwise"
    with pytest.raises(LMBError, match=rf"unknown tail 'lite'\. Did you mean 'light'\? Allowed: {allowed}"):
        srresnet(tail="lite")
    with pytest.raises(RecipeError, match=r"unknown recipe 'lbm'\. Did you mean 'lmb'\?"):
        vdsr(recipe="lbm")


@pytest.mark.train
@pytest.mark.parametrize("name", ["lmb", "sign"])
def test_overfits_one_patch(name):
    """Fifty steps on one 16 x 16 patch: the loss falls far below that of the bilinear start."""
    net = srresnet(num_feat=16, recipe=name)
    hr = torch.rand(1, 3, 32, 32)
    lr = F.interpolate(hr, scale_factor=0.5, mode="area")
    optimizer, losses = torch.optim.Adam(net.parameters(), 5e-3), []
    for _ in range(50):
        loss = F.l1_loss(net(lr), hr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
