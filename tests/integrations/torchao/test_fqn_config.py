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

from lmb_quant import LMBError, Recipe, RecipeError, binarize, convert, recipe_of
from lmb_quant.archs import LMBSRResNet
from lmb_quant.integrations.torchao import LMBConfig, to_torchao
from lmb_quant.modules import binary_convs
from lmb_quant.recipe import recipe_names
from lmb_quant.rewrite import remember_recipe

STEPS = ("prepare", "convert", "prepare_for_loading")
INT8 = config_to_dict(IntxWeightOnlyConfig(weight_dtype=torch.int8))
MIXED = recipe(others=[{"match": "conv_first", "torchao": INT8}, {"match": "tail.*", "torchao": INT8}])


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


NETS = [small_net, sr_net, shared_in_one_place, shared_in_two_places, shared_block]


@pytest.mark.parametrize(
    ("make", "name"),
    [(make, "lmb") for make in NETS] + [(small_net, name) for name in recipe_names() if name not in ("lmb", "bam")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_quantize_and_binarize_give_the_same_network(make, name):
    net = make()
    expected = binarize(copy.deepcopy(net), name)
    names = [key for key, _ in net.named_modules(remove_duplicate=False)]
    quantize_(net, to_torchao(name, net), filter_fn=None)
    assert [key for key, _ in net.named_modules(remove_duplicate=False) if key in names] == names
    assert len(list(binary_convs(net))) > 0
    assert_same(net, expected)


def test_layers_that_share_state_need_binarize():
    with pytest.raises(LMBError, match=r"chain: 3 is not allowed\. Allowed: 1; .* by lmb_quant\.binarize\(\)"):
        to_torchao("bam", small_net())


def test_overrides_reach_their_layer():
    data = recipe(overrides=[{"match": "2", "activation": {"window": 5}}, {"match": "4", "skip_layer": True}])
    net = small_net()
    expected = binarize(copy.deepcopy(net), data)
    config = to_torchao(data, net)
    assert list(config.fqn_to_config) == ["", "2"]
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
    assert set(to_torchao("lmb", shared_block()).fqn_to_config) == {"", "1.0", "1.2", "2.0", "2.2"}


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


def test_others_are_checked_at_prepare_and_applied_at_convert():
    net = sr_net()
    quantize_(net, to_torchao(MIXED, net), filter_fn=None)
    assert binary(net) == ["body.0.conv1", "body.0.conv2", "body.1.conv1", "body.1.conv2"]
    assert all(type(parameter) is nn.Parameter for parameter in net.parameters() if parameter.requires_grad)
    net.tail[0].weight.data.normal_(std=0.1)
    body_only = convert_body(net)
    quantize_(net, to_torchao(MIXED, net, step="convert"), filter_fn=None)
    for layer in (net.conv_first, net.tail[0]):
        assert type(layer.weight).__name__ == "IntxUnpackedToInt8Tensor"
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    x = torch.rand(1, 3, 16, 16)
    assert 20 < float(compute_error(body_only(x), net(x))) < 90  # int8, and not float: dB


def convert_body(net):
    return convert(remembering_nothing(copy.deepcopy(net)))


def remembering_nothing(net):
    remember_recipe(net, None)  # else convert() would say that it leaves others float
    return net


@pytest.mark.parametrize("name", ["lmb-shift", "rsign"])
@pytest.mark.parametrize(
    "make", [small_net, sr_net, shared_in_two_places, shared_block], ids=lambda make: make.__name__
)
def test_convert_by_both_roads(make, name):
    net = binarize(make(), name)
    expected = convert(net)
    quantize_(net, to_torchao(name, net, step="convert"), filter_fn=None)
    assert repr(net) == repr(expected)
    assert recipe_of(net) == recipe_of(expected) == Recipe.load(name)
    assert [m is n for m in net.modules() for n in net.modules()] == [
        m is n for m in expected.modules() for n in expected.modules()
    ]
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(net(x), expected(x))


def test_convert_needs_a_binary_network():
    with pytest.raises(RecipeError, match=r"recipe 'lmb': layer '2' is not binary yet. Before step 'convert'"):
        to_torchao("lmb", small_net(), step="convert")
    with pytest.raises(LMBError, match=r"unknown step 'covert'. Did you mean 'convert'"):
        to_torchao("lmb", small_net(), step="covert")


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("start", [None, "lmb"], ids=["float", "training form"])
def test_prepare_for_loading(start, device):
    packed = sr_net()
    quantize_(packed, to_torchao(MIXED, packed), filter_fn=None)
    quantize_(packed, to_torchao(MIXED, packed, step="convert"), filter_fn=None)
    with torch.device(device):
        net = LMBSRResNet(num_feat=8, num_block=2, upscale=2, recipe=start)
    quantize_(net, to_torchao(MIXED, net, step="prepare_for_loading"), filter_fn=None)
    net.load_state_dict(packed.state_dict(), strict=True, assign=True)
    assert repr(net) == repr(packed)
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(net(x), packed(x))


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
    config = to_torchao(data, shared_block(), step="prepare_for_loading")
    assert {"1.0", "2.0"} <= set(config.fqn_to_config)  # one place: the block is shared


def test_a_failed_trial_run_is_told():
    class Odd(nn.Sequential):
        def forward(self, x, other):
            return super().forward(x + other)

    with pytest.warns(UserWarning, match="by registration order"):
        to_torchao("lmb", Odd(*small_net()))


def test_json_in_a_fresh_process():
    net = sr_net()
    plain = [
        LMBConfig(activation="sign", activation_options={"surrogate": "ste"}, norm="batch", skip=True),
        LMBConfig(step="convert"),
        LMBConfig(step="convert", act="rprelu", activation_options={"window": 5}),
        LMBConfig(step="prepare_for_loading", skip=True),
    ]
    mixed = []
    for step in STEPS:
        mixed.append(to_torchao(MIXED, net, step=step))
        if step != "prepare_for_loading":
            quantize_(net, mixed[-1], filter_fn=None)
        if step == "convert":
            net, packed = sr_net(), net
    texts = [json.dumps(config_to_dict(config)) for config in (*plain, *mixed)]
    again = run_python(f"""
import json
from torchao.core.config import config_from_dict, config_to_dict
import lmb_quant.integrations.torchao
configs = [config_from_dict(json.loads(text)) for text in {texts!r}]
from torchao.quantization import quantize_
from lmb_quant.archs import LMBSRResNet
prepare, convert, load = configs[-3:]
results = []
for steps in ((prepare,), (prepare, convert), (load,)):
    net = LMBSRResNet(num_feat=8, num_block=2, upscale=2, recipe=None)
    for step in steps:
        quantize_(net, step, filter_fn=None)
    results.append([repr(net), sorted(net.state_dict())])
print(json.dumps([*map(config_to_dict, configs), results]))
""")
    *configs, results = json.loads(again)
    assert [config_from_dict(config) for config in configs] == [*plain, *mixed]
    assert configs == [json.loads(text) for text in texts]
    prepared = sr_net()
    quantize_(prepared, mixed[0], filter_fn=None)
    assert results[0] == [repr(prepared), sorted(prepared.state_dict())]
    assert results[1] == results[2] == [repr(packed), sorted(packed.state_dict())]
