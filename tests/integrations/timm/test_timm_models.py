# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/timm/models.py."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from lmb_quant import LMBError, RecipeError
from lmb_quant.integrations.timm import lmb_resnet18, make_optimizer
from lmb_quant.modules import BinaryConv2d, binary_convs


def test_the_models_are_listed():
    assert timm.list_models("lmb_*") == ["lmb_resnet18", "lmb_resnet34"]


@pytest.mark.parametrize(("name", "count"), [("lmb_resnet18", 16), ("lmb_resnet34", 32)])
def test_stem_pointwise_and_classifier_stay_float(name, count):
    net = timm.create_model(name, num_classes=10)
    assert len(list(binary_convs(net))) == count
    left = [
        n for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and not isinstance(m, BinaryConv2d)
    ]
    assert left == ["conv1", *(f"layer{i}.0.downsample.0" for i in (2, 3, 4)), "fc"]


@pytest.mark.parametrize(
    ("recipe", "binarizer"), [(None, "local_mean"), ("lmb", "local_mean"), ("sign", "sign"), ("rsign", "rsign")]
)
def test_recipes(recipe, binarizer):
    net = timm.create_model("lmb_resnet18", recipe=recipe, num_classes=7, in_chans=1).eval()
    assert {layer.config.activation for layer in binary_convs(net)} == {binarizer}
    with torch.no_grad():
        assert net(torch.rand(2, 1, 32, 40)).shape == (2, 7)


def test_prelu_keeps_plain_signs_alive():
    def layers_with_both_signs(**options):
        net = timm.create_model("lmb_resnet18", recipe="sign", num_classes=10, **options)
        shares = []
        for layer in binary_convs(net):
            layer.binarize_input.register_forward_hook(lambda m, args, bits: shares.append((bits > 0).float().mean()))
        with torch.no_grad():
            net(torch.randn(4, 3, 64, 64))
        return sum(0.05 < float(share) < 0.95 for share in shares)

    assert layers_with_both_signs(act_layer="relu") == 0
    assert layers_with_both_signs() == 13  # the stem's max pooling leaves three of the first stage positive, untrained


def test_a_float_checkpoint_of_timm_loads_strictly():
    source = timm.create_model("resnet18", num_classes=10, act_layer="prelu")
    net = timm.create_model("lmb_resnet18", num_classes=10)
    net.load_state_dict(copy.deepcopy(source.state_dict()), strict=True)
    assert torch.equal(net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_features_only():
    net = timm.create_model("lmb_resnet18", features_only=True).eval()
    with torch.no_grad():
        assert [y.shape[1] for y in net(torch.rand(1, 3, 64, 64))] == [64, 64, 128, 256, 512]


def test_wrong_arguments():
    with pytest.raises(LMBError, match=r"lmb_resnet18: pretrained: True is not allowed"):
        timm.create_model("lmb_resnet18", pretrained=True)
    with pytest.raises(RecipeError, match=r"unknown recipe 'lbm'. Did you mean 'lmb'"):
        lmb_resnet18(recipe="lbm")


@pytest.mark.train
@pytest.mark.parametrize("recipe", ["lmb", "sign"])
def test_it_over_fits_a_few_images(recipe):
    net = timm.create_model("lmb_resnet18", recipe=recipe, num_classes=3)
    images, labels = torch.rand(6, 3, 32, 32), torch.arange(6) % 3
    optimizer = make_optimizer("adamw", net.parameters(), lr=2e-3, weight_decay=0.0)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.1:
            break
    assert losses[0] > 0.8
    assert losses[-1] < 0.1
    with torch.no_grad():
        assert bool((net(images).argmax(1) == labels).all())
