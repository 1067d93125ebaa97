# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/trial.py: a recipe's `others` are tried on a copy before a network is trained."""

import pytest
import torch
from helpers import assert_same_state, conv, recipe, state_of
from torch import nn
from torchao.core.config import config_to_dict
from torchao.quantization import (
    Int4WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    quantize_,
)
from torchao.quantization.granularity import PerGroup

from lmb_quant import RecipeError, binarize
from lmb_quant.integrations.torchao import UnsupportedSchemeError, to_torchao
from lmb_quant.integrations.torchao.trial import try_on_layer

INTX = IntxWeightOnlyConfig(weight_dtype=torch.int8)


def net():
    return nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(3, 64))


def others(config, match="0"):
    return recipe(others=[{"match": match, "torchao": config_to_dict(config)}])


@pytest.mark.parametrize("step", ["prepare", "convert", "prepare_for_loading"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Int8WeightOnlyConfig(), "not implemented|unimplemented|NotImplementedError|leaves the weight"),
        (Int8DynamicActivationInt8WeightConfig(), "unimplemented|leaves the weight"),
        (Int4WeightOnlyConfig(), "leaves the weight of .* as it is, without a word"),
        (IntxWeightOnlyConfig(weight_dtype=torch.int1), "makes every weight of .* zero"),
        (IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerGroup(5)), "AssertionError|ValueError"),
    ],
    ids=["int8", "int8-dynamic", "int4", "int1", "group"],
)
def test_a_config_that_a_convolution_cannot_run_is_refused(config, reason, device, step):
    model = net()
    if step == "convert":
        binarize(model, "lmb")
    model, before = model.to(device), state_of(model)
    with pytest.raises(RecipeError, match=rf"others: 0: {type(config).__name__} cannot.*layer '0', Conv2d\(3.*Allow"):
        to_torchao(others(config), model, step=step)
    with pytest.raises(RecipeError, match=reason):
        to_torchao(others(config), model, step=step)
    if device == "cpu":
        assert_same_state(model, before)


@pytest.mark.filterwarnings("ignore:Config Deprecation")  # of torchao 0.15
def test_a_config_that_runs_on_a_linear_layer_is_taken_there_and_that_it_is_not_stored_is_told():
    with pytest.warns(UserWarning, match=r"Int8WeightOnlyConfig: it runs, but lmb_quant.save\(\) cannot store it"):
        config = to_torchao(others(Int8WeightOnlyConfig(), "5"), net(), step="prepare_for_loading")
    assert type(config.fqn_to_config["5"]) is Int8WeightOnlyConfig


LAYERS = [
    conv(4, 8, 3, stride=2, dilation=2, padding=0),
    conv(4, 8, 5, groups=2),
    nn.Linear(4, 8),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_the_trial_fits_the_layer_and_leaves_no_trace(layer):
    nn.init.zeros_(layer.weight)  # a tail may begin with zeros
    calls, before, rng = [], state_of(layer), torch.get_rng_state()
    layer.register_forward_hook(lambda *_: calls.append("hook"))
    try_on_layer(layer, INTX)
    assert_same_state(layer, before)
    assert type(layer.weight) is nn.Parameter
    assert torch.equal(torch.get_rng_state(), rng)
    assert not calls


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(4, 8, 3, stride=2), nn.Conv1d(4, 8, 3)], ids=repr)
def test_layers_that_torchao_passes_over(layer):
    with pytest.raises(UnsupportedSchemeError):
        try_on_layer(layer, INTX)


def test_a_layer_that_is_quantised_already_is_left_out():
    model = nn.Sequential(conv(3, 8))
    quantize_(model, INTX, filter_fn=lambda module, fqn: fqn == "0")
    try_on_layer(model[0], INTX)
