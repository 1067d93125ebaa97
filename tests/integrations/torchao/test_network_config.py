# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/network.py."""

import pytest
from helpers import binary, recipe, small_net
from torchao.quantization import quantize_

from lmb_quant import LMBError, Recipe, RecipeError, binarize, recipe_of
from lmb_quant.integrations.torchao import LMBConfig, LMBNetworkConfig, conv_filter, to_torchao

LMB = Recipe.load("lmb").to_yaml()


def test_a_network_remembers_its_recipe_through_all_steps():
    net, data = small_net(), recipe(activation={"window": 5})
    for step in ("prepare", "convert"):
        quantize_(net, to_torchao(data, net, step=step), filter_fn=None)
        assert recipe_of(net) == Recipe.load(data)
    empty = small_net()
    quantize_(empty, to_torchao(data, empty, step="prepare_for_loading"), filter_fn=None)
    assert recipe_of(empty) == Recipe.load(data)


def test_layers_made_by_hand_have_no_recipe():
    net = small_net()
    quantize_(net, LMBConfig(skip=True), filter_fn=conv_filter(ignore=["0", "6"]))
    assert binary(net) == ["2", "4"]
    assert recipe_of(net) is None
    quantize_(net, to_torchao("lmb", net, step="convert"), filter_fn=None)
    assert recipe_of(net) is None


def test_others_may_be_added_after_the_training():
    net = binarize(small_net(), "lmb")
    data = recipe(others=[{"match": "0", "torchao": {"_type": "IntxWeightOnlyConfig", "_version": 2, "_data": {}}}])
    quantize_(net, to_torchao(data, net, step="convert"), filter_fn=None)
    assert recipe_of(net) == Recipe.load(data)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"step": "pack"}, LMBError, r"unknown step 'pack'"),
        ({"version": 2}, LMBError, r"version: 2 is not allowed"),
        ({"recipe": "lbm"}, RecipeError, r"Did you mean 'lmb'"),
    ],
    ids=["step", "version", "recipe"],
)
def test_wrong_words(words, error, message):
    with pytest.raises(error, match=message):
        LMBNetworkConfig(**{"recipe": LMB} | words)
