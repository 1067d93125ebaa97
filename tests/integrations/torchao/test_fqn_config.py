# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/fqn_config.py: one network by both roads."""

import copy
import json

import pytest
import torch
from helpers import binary, conv, recipe, run_python, small_net
from torch import nn
from torchao.core.config import config_from_dict, config_to_dict
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.utils import compute_error

from lmb_quant import RecipeError, binarize
from lmb_quant.archs import LMBSRResNet
from lmb_quant.integrations.torchao import LMBConfig, to_torchao
from lmb_quant.modules import binary_convs
from lmb_quant.recipe import recipe_names

INT8 = config_to_dict(IntxWeightOnlyConfig(weight_dtype=torch.int8))


def shared_in_one_place():
    shared = conv(8, 8)
    return nn.Sequential(conv(3, 8), shared, nn.ReLU(), shared, conv(8, 3))


def shared_in_two_places():
    shared = conv(8, 8)
    return nn.Sequential(conv(3, 8), nn.Sequential(shared), nn.Sequential(nn.ReLU(), shared), conv(8, 3))


def shared_block():
    block = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))
    return nn.Sequential(conv(3, 8), block, block, conv(8, 3))


def sr_net():
    return LMBSRResNet(num_feat=8, num_block=2, upscale=2, recipe=None)


def forward_and_gradients(net):
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = net(x)
    y.square().mean().backward()
    return [y, x.grad, *(p.grad for p in net.parameters() if p.requires_grad)]


def assert_same(actual, expected):
    assert binary(actual) == binary(expected)
    assert [layer.config for layer in binary_convs(actual)] == [layer.config for layer in binary_convs(expected)]
    assert repr(actual) == repr(expected)
    assert list(actual.state_dict()) == list(expected.state_dict())
    for name, value in expected.state_dict().items():
        assert torch.equal(actual.state_dict()[name], value), name
    for ours, theirs in zip(forward_and_gradients(actual), forward_and_gradients(expected), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize(
    "make", [small_net, sr_net, shared_in_one_place, shared_in_two_places, shared_block], ids=lambda make: make.__name__
)
def test_quantize_and_binarize_give_the_same_network(make, name):
    net = make()
    expected = binarize(copy.deepcopy(net), name)
    names = [key for key, _ in net.named_modules(remove_duplicate=False)]
    quantize_(net, to_torchao(name, net), filter_fn=None)
    assert [key for key, _ in net.named_modules(remove_duplicate=False) if key in names] == names
    assert len(list(binary_convs(net))) > 0
    assert_same(net, expected)


def test_overrides_reach_their_layer():
    data = recipe(overrides=[{"match": "2", "activation": {"window": 5}}, {"match": "4", "skip_layer": True}])
    net = small_net()
    expected = binarize(copy.deepcopy(net), data)
    config = to_torchao(data, net)
    assert list(config.fqn_to_config) == ["2"]
    quantize_(net, config, filter_fn=None)
    assert net[2].config.activation_options["window"] == 5
    assert_same(net, expected)


def test_a_root_convolution():
    data = recipe(ignore=[])
    root = conv(3, 3)
    expected = binarize(copy.deepcopy(root), data)
    quantize_(root, to_torchao(data, root), filter_fn=None)
    assert_same(root, expected)


def test_all_names_of_a_shared_module_are_in_the_config():
    assert set(to_torchao("lmb", shared_block()).fqn_to_config) == {"1.0", "1.2", "2.0", "2.2"}


def test_the_model_is_not_changed_and_a_second_time_changes_nothing():
    net = small_net()
    before = repr(net)
    config = to_torchao("lmb", net)
    assert repr(net) == before
    quantize_(net, config, filter_fn=None)
    expected = copy.deepcopy(net)
    quantize_(net, config, filter_fn=None)
    quantize_(net, to_torchao("lmb", net), filter_fn=None)
    assert_same(net, expected)


def test_an_optimizer_made_before_stays_valid():
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    before = net[2].weight.detach().clone()
    quantize_(net, to_torchao("lmb", net), filter_fn=None)
    net(torch.rand(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(net[2].weight, before)


def test_input_size_is_that_of_the_plan():
    with pytest.raises(RecipeError, match="input_size"):
        to_torchao("lmb", small_net(), input_size=(1, 5, 8, 8))


def test_others_get_their_torchao_config():
    data = recipe(others=[{"match": "conv_first", "torchao": INT8}, {"match": "tail.*", "torchao": INT8}])
    net = sr_net()
    nn.init.normal_(net.tail[0].weight, std=0.1)
    body_only = binarize(copy.deepcopy(net), "lmb").eval()
    quantize_(net, to_torchao(data, net), filter_fn=None)
    assert binary(net) == ["body.0.conv1", "body.0.conv2", "body.1.conv1", "body.1.conv2"]
    for layer in (net.conv_first, net.tail[0]):
        assert type(layer.weight).__name__ == "IntxUnpackedToInt8Tensor"
    assert type(net.body[0].conv1.weight) is nn.Parameter
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert 20 < float(compute_error(body_only(x), net.eval()(x))) < 90  # int8, and not float: dB


def test_others_need_torchao_in_binarize():
    with pytest.raises(RecipeError, match=r"others.*to_torchao"):
        binarize(small_net(), recipe(others=[{"match": "0", "torchao": INT8}]))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"_type": "NoSuchConfig", "_data": {}},
        {"_type": "IntxWeightOnlyConfig", "_version": 2, "_data": {"bits": 8}},
    ],
    ids=["empty", "unknown", "field"],
)
def test_others_that_are_no_torchao_config(entry):
    with pytest.raises(RecipeError, match=r"recipe: others: 0: .* is not a torchao config"):
        to_torchao(recipe(others=[{"match": "0", "torchao": entry}]), small_net())


def test_others_refuse_a_module_in_two_places():
    data = recipe(targets=["0"], ignore=[], others=[{"match": "1.0", "torchao": INT8}])
    with pytest.raises(RecipeError, match=r"'1.0' and '2.1' are one module"):
        to_torchao(data, shared_in_two_places())
    data = recipe(targets=["0"], ignore=[], others=[{"match": "1.0", "torchao": INT8}])
    assert "1.0" in to_torchao(data, shared_block()).fqn_to_config  # one place: the block is shared


def test_a_failed_trial_run_is_told():
    class Odd(nn.Sequential):
        def forward(self, x, other):
            return super().forward(x + other)

    with pytest.warns(UserWarning, match="by registration order"):
        to_torchao("lmb", Odd(*small_net()))


def test_json_in_a_fresh_process():
    data = recipe(others=[{"match": "conv_first", "torchao": INT8}, {"match": "tail.*", "torchao": INT8}])
    net = sr_net()
    mixed = to_torchao(data, net)
    plain = LMBConfig(activation="sign", activation_options={"surrogate": "ste"}, norm="batch", skip=True)
    texts = [json.dumps(config_to_dict(config)) for config in (plain, mixed)]
    again = run_python(f"""
import json
from torchao.core.config import config_from_dict, config_to_dict
import lmb_quant.integrations.torchao
configs = [config_from_dict(json.loads(text)) for text in {texts!r}]
from torchao.quantization import quantize_
from lmb_quant.archs import LMBSRResNet
net = LMBSRResNet(num_feat=8, num_block=2, upscale=2, recipe=None)
quantize_(net, configs[1], filter_fn=None)
print(json.dumps([*map(config_to_dict, configs), sorted(net.state_dict())]))
""")
    quantize_(net, mixed, filter_fn=None)
    *configs, keys = json.loads(again)
    assert [config_from_dict(config) for config in configs] == [plain, mixed]
    assert configs == [json.loads(text) for text in texts]
    assert keys == sorted(net.state_dict())
