# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/selection.py."""

import pytest
from helpers import binary, conv, recipe, small_net
from torch import nn
from torchao.quantization import quantize_

from lmb_quant import LMBError, RecipeError, binarize
from lmb_quant.archs import LMBSRResNet
from lmb_quant.integrations.torchao import LMBConfig, conv_filter


class Conv2dOfMine(nn.Conv2d):
    pass


def selected(net, filter_fn):
    return [name for name, module in net.named_modules() if filter_fn(module, name)]


def test_every_plain_convolution():
    net = nn.Sequential(conv(3, 3), nn.ReLU(), nn.Linear(3, 3), Conv2dOfMine(3, 3, 3), nn.ConvTranspose2d(3, 3, 3))
    assert selected(net, conv_filter()) == ["0"]


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        (["0"], ["2", "4", "6"]),
        (["0", "6"], ["2", "4"]),
        (["re:[02]"], ["4", "6"]),
        (["[!4]"], ["4"]),
        (["re:6x?"], ["0", "2", "4"]),
    ],
)
def test_ignored_names(ignore, expected):
    assert selected(small_net(), conv_filter(ignore=ignore)) == expected
    assert selected(small_net(), conv_filter(ignore=ignore, model=small_net())) == expected


def test_tokens_with_a_model():
    net = LMBSRResNet(num_feat=8, num_block=1, recipe=None)
    assert selected(net, conv_filter(ignore=["@first", "@last", "@upsample"], model=net)) == [
        "body.0.conv1",
        "body.0.conv2",
    ]


def test_a_recipe_selects_what_it_makes_binary():
    data = recipe(overrides=[{"match": "2", "skip_layer": True}])
    net = small_net()
    assert selected(net, conv_filter(data, model=net)) == binary(binarize(small_net(), data)) == ["4"]
    quantize_(net, LMBConfig(), filter_fn=conv_filter(data, model=net))
    assert binary(net) == ["4"]


def test_with_a_model_what_cannot_be_binary_is_left_out():
    net = nn.Sequential(conv(3, 3, padding_mode="reflect"), conv(3, 3))
    assert selected(net, conv_filter()) == ["0", "1"]
    assert selected(net, conv_filter(model=net)) == ["1"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"recipe": "lmb"}, LMBError, r"recipe: 'lmb' needs model="),
        ({"recipe": "lmb", "ignore": ["0"]}, LMBError, r"ignore: \['0'\] is not allowed beside a recipe"),
        ({"ignore": ["@first"]}, LMBError, r"ignore: '@first' needs model="),
        ({"ignore": ["@frist"]}, RecipeError, r"'@frist'. Did you mean '@first'"),
        ({"ignore": ["re:("]}, RecipeError, r"re:\("),
        ({"ignore": ["conv_frist"], "model": small_net()}, RecipeError, r"'conv_frist' matches no layer"),
        ({"recipe": "lbm", "model": small_net()}, RecipeError, r"unknown recipe 'lbm'. Did you mean 'lmb'"),
    ],
)
def test_wrong_choices(arguments, error, message):
    with pytest.raises(error, match=message):
        conv_filter(**arguments)
