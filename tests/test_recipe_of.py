# SPDX-License-Identifier: Apache-2.0
"""recipe_of() of lmb_quant/rewrite.py: which recipe made a network, through all that happens to it."""

import copy
import pickle

import pytest
from helpers import binary, conv, recipe, small_net

import lmb_quant as lmb
from lmb_quant import Recipe, binarize, convert, recipe_of
from lmb_quant.archs import LMBSRResNet
from lmb_quant.rewrite import remember_recipe


def test_a_float_network_has_none():
    assert recipe_of(small_net()) is None
    assert recipe_of(LMBSRResNet(num_feat=8, num_block=1, recipe=None)) is None


def test_it_is_the_whole_recipe():
    data = recipe(overrides=[{"match": "2", "activation": {"window": 5}}])
    assert recipe_of(binarize(small_net(), data)) == Recipe.load(data)
    assert recipe_of(LMBSRResNet(num_feat=8, num_block=1, recipe="lmb-k5")) == Recipe.load("lmb-k5")


def test_it_outlives_copies_and_convert_and_is_no_state():
    net = binarize(small_net(), "lmb")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), convert(net), convert(net, inplace=True)):
        assert recipe_of(other) == Recipe.load("lmb")
    assert not any("recipe" in key for key in net.state_dict())


def test_a_root_convolution_keeps_it():
    data = recipe(ignore=[])
    root = binarize(conv(3, 3), data)
    assert recipe_of(convert(root)) == recipe_of(convert(root, inplace=True)) == recipe_of(root) == Recipe.load(data)


def test_what_one_recipe_does_not_say_is_unknown():
    net = binarize(small_net(), recipe(targets=["2"], ignore=[]))
    assert binary(net) == ["2"]
    assert recipe_of(binarize(net, "lmb")) is None
    net = binarize(small_net(), "lmb")
    assert recipe_of(binarize(net, "lmb")) == Recipe.load("lmb")


def test_others_that_convert_leaves_float_are_told():
    net = lmb.binarize(small_net(), "lmb")
    remember_recipe(net, Recipe.load(recipe(others=[{"match": "0", "torchao": {}}])))
    with pytest.warns(UserWarning, match=r"others are left float here: quantize_.*step='convert'"):
        packed = convert(net)
    assert convert(packed) is not None  # nothing left to pack, nothing to tell
