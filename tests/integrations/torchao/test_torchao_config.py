# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/config.py."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from helpers import assert_same_state, chain, conv, small_net, state_of
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchao.quantization import quantize_

from lmb_quant import LMBError, binarize, convert
from lmb_quant.integrations.torchao import LMBConfig, conv_filter, is_binary, to_torchao
from lmb_quant.modules import BinaryConv2d, LayerConfig, PackedBinaryConv2d
from lmb_quant.packing import for_inference


class Conv2dOfMine(nn.Conv2d):
    pass


def test_fields_are_those_of_a_layer():
    assert {field.name for field in fields(LMBConfig)} == {*(f.name for f in fields(LayerConfig)), "step", "version"}


def test_default_is_the_scheme_of_recipe_lmb():
    by_recipe = to_torchao("lmb", small_net()).fqn_to_config["2"]
    assert replace(by_recipe, skip=False) == LMBConfig()


def test_words_not_given_are_filled_in():
    assert LMBConfig(activation="sign").activation_options.keys() == {"surrogate"}
    assert LMBConfig(step="convert").words() == {}
    assert LMBConfig(step="convert", act="none").words() == {"act": "none"}


def test_options_not_given_are_filled_in():
    config = LMBConfig(activation_options={"window": 5}, weight_options={})
    assert config.activation_options["window"] == 5
    assert config.activation_options.keys() == LMBConfig().activation_options.keys()
    assert config.weight_options.keys() == LMBConfig().weight_options.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"activation": "local_meen"},
            r"LMBConfig: unknown activation binarizer 'local_meen'. Did you mean 'local_mean'",
        ),
        ({"activation_options": {"windw": 3}}, r"'windw'. Did you mean 'window'"),
        ({"activation_options": {"window": 4}}, r"LMBConfig: .*window: 4 is not allowed"),
        ({"weight": "sine"}, r"unknown weight binarizer 'sine'"),
        ({"alpha": "channel"}, r"LMBConfig: .*'channel'"),
        ({"act": "relu6"}, r"LMBConfig: .*'relu6'"),
        ({"skip": "auto"}, r"skip: 'auto' is not allowed. Allowed: True, False"),
        ({"step": "prepair"}, r"unknown step 'prepair'. Did you mean 'prepare'"),
        ({"step": "prepare_for_loading", "act": "relu6"}, r"LMBConfig: .*'relu6'"),
        ({"step": "convert", "skip": 1}, r"skip: 1 is not allowed. Allowed: True, False"),
        ({"version": 2}, r"version: 2 is not allowed. Allowed: 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_words(words, message):
    with pytest.raises(LMBError, match=message):
        LMBConfig(**words)


def test_making_a_config_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    LMBConfig()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (nn.Linear(3, 3), {}, r"Linear\(.*not a Conv2d.*conv_filter"),
        (nn.ConvTranspose2d(3, 3, 3), {}, r"not a Conv2d"),
        (Conv2dOfMine(3, 3, 3), {}, r"Conv2dOfMine\(.*a subclass of Conv2d"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), {}, r"padding_mode 'reflect' \(only 'zeros'"),
        (weight_norm(nn.Conv2d(3, 3, 3)), {}, r"a subclass of Conv2d|computed from other tensors"),
        (nn.Conv2d(3, 3, 3), {"skip": True}, r"skip: True, but input and output differ in shape"),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), {"skip": True}, r"differ in shape"),
        (nn.Conv2d(4, 8, 3, padding=1), {"skip": True}, r"differ in shape"),
    ],
    ids=["linear", "transposed", "subclass", "reflect", "weight_norm", "skip-frame", "skip-strided", "skip-channels"],
)
def test_what_cannot_be_binary_is_refused_and_left_alone(module, words, message):
    before = copy.deepcopy(module)
    with pytest.raises(LMBError, match=message):
        quantize_(nn.Sequential(module), LMBConfig(**words), filter_fn=lambda m, fqn: fqn == "0")
    assert repr(module) == repr(before)


@pytest.mark.parametrize(
    "layer",
    [conv(4, 4), conv(4, 4, 5), conv(4, 4, 3, dilation=2, padding=2), conv(4, 4, padding="same"), conv(4, 4, groups=2)],
    ids=["3", "5", "dilated", "same", "grouped"],
)
def test_skip_where_the_shape_is_kept(layer):
    net = nn.Sequential(layer)
    quantize_(net, LMBConfig(skip=True), filter_fn=conv_filter())
    assert net(torch.rand(1, 4, 7, 6)).shape == (1, 4, 7, 6)


def test_the_module_stays_the_same_object_with_its_parameters_hooks_and_mode():
    net = nn.Sequential(conv(4, 4)).eval()
    module, weight, calls = net[0], net[0].weight, []
    module.register_forward_hook(lambda *_: calls.append("hook"))
    quantize_(net, LMBConfig(), filter_fn=conv_filter())
    assert net[0] is module
    assert type(module) is BinaryConv2d
    assert module.weight is weight
    assert not any(part.training for part in module.modules())
    net(torch.rand(1, 4, 6, 6))
    assert calls == ["hook"]


def test_a_root_convolution_is_not_lost():
    root = conv(4, 4)
    expected = BinaryConv2d.from_float(copy.deepcopy(root), LMBConfig().layer_config())
    quantize_(root, LMBConfig(), filter_fn=conv_filter())
    x = torch.randn(2, 4, 6, 6)
    assert type(root) is BinaryConv2d
    assert torch.equal(root(x), expected(x))


@pytest.mark.parametrize("names", [("a", "b"), ("a", "inner.b")])
def test_a_shared_module_changes_at_all_its_places(names):
    shared = conv(4, 4)
    net = nn.ModuleDict({"inner": nn.ModuleDict()})
    for name in names:
        parent, _, child = name.rpartition(".")
        net.get_submodule(parent)[child] = shared
    quantize_(net, LMBConfig(), filter_fn=conv_filter())
    first, second = map(net.get_submodule, names)
    assert first is second
    assert type(first) is BinaryConv2d


def test_twice_is_once_and_another_form_is_refused():
    net = binarize(small_net(), "lmb")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01)  # as if trained
    trained, parts = state_of(net), list(net.modules())
    quantize_(net, LMBConfig(skip=True), filter_fn=lambda m, fqn: fqn in ("2", "4"))
    assert_same_state(net, trained)
    assert all(part is before for part, before in zip(net.modules(), parts, strict=True))
    with pytest.raises(LMBError, match="binary already, in another way"):
        quantize_(net, LMBConfig(norm="batch"), filter_fn=lambda m, fqn: fqn == "2")


def test_a_config_for_a_chain_trains():
    net = chain(3, 8, 8, 3)
    quantize_(net, LMBConfig(skip=True), filter_fn=conv_filter(ignore=["0", "4"]))
    net(torch.randn(2, 3, 8, 8)).square().mean().backward()
    assert float(net[2].weight.grad.abs().sum()) > 0


def assert_same_packed(actual, expected):
    assert repr(actual) == repr(expected)
    assert_same_state(actual, state_of(expected))
    x = torch.randn(1, 3, 9, 8)
    assert torch.equal(for_inference(actual)(x), for_inference(expected)(x))


def randomised(net):
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return net


def test_convert_packs_what_convert_packs():
    net = randomised(binarize(small_net(), "lmb-shift"))
    expected = convert(net)
    quantize_(net, LMBConfig(step="convert"), filter_fn=is_binary)
    assert_same_packed(net, expected)
    quantize_(net, LMBConfig(step="convert"), filter_fn=lambda module, fqn: fqn in ("2", "4"))
    assert_same_packed(net, expected)


def test_convert_of_a_root_and_of_a_module_in_two_places():
    root = BinaryConv2d.from_float(conv(3, 3), LMBConfig().layer_config())
    expected = PackedBinaryConv2d.from_binary(root)
    quantize_(root, LMBConfig(step="convert"), filter_fn=is_binary)
    assert_same_packed(root, expected)
    shared = BinaryConv2d.from_float(conv(3, 3), LMBConfig().layer_config())
    net = nn.Sequential(shared, nn.Sequential(shared))
    expected = convert(net)
    quantize_(net, LMBConfig(step="convert"), filter_fn=is_binary)
    assert net[0] is net[1][0] is shared
    assert_same_packed(net, expected)


def test_convert_checks_the_words_that_are_given():
    net = binarize(small_net(), "lmb-k5")
    quantize_(net, LMBConfig(step="convert", activation_options={"window": 5}), filter_fn=lambda m, fqn: fqn == "2")
    assert type(net[2]) is PackedBinaryConv2d
    before = repr(net[4])
    for words, message in (({"activation_options": {"window": 3}}, "activation_options.*in another way"),
                           ({"norm": "batch"}, "norm: 'batch' is asked for")):  # fmt: skip
        with pytest.raises(LMBError, match=message):
            quantize_(net, LMBConfig(step="convert", **words), filter_fn=is_binary)
    assert repr(net[4]) == before


def test_convert_refuses_hooks_and_float_layers():
    net = binarize(small_net(), "lmb")
    with pytest.raises(LMBError, match="cannot be packed: it is not binary"):
        quantize_(net, LMBConfig(step="convert"), filter_fn=lambda m, fqn: fqn == "0")
    net[2].register_forward_hook(lambda *_: None)
    with pytest.raises(LMBError, match=r"cannot be packed: .*forward_hooks have no packed form"):
        quantize_(net, LMBConfig(step="convert"), filter_fn=is_binary)
    assert type(net[2]) is BinaryConv2d


FORMS = [
    {},
    {"skip": True, "norm": "batch"},
    {"activation": "sign", "act": "prelu"},
    {"activation": "rsign", "act": "none", "norm": "batch"},
    {"activation_options": {"window": "global", "shift": "channel"}, "act": "prelu", "norm": "batch"},
]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", ""])
@pytest.mark.parametrize("words", FORMS, ids=lambda words: "-".join(words) or "default")
def test_an_empty_layer_is_filled_by_the_state_of_a_packed_one(words, bias, device):
    def net(where):
        with torch.device(where):
            return nn.Sequential(conv(3, 5), conv(5, 5, 3, bias=bias))

    packed, empty = net("cpu"), net(device)
    if LMBConfig(**words).skip:
        packed[0] = empty[0] = nn.Identity()
        packed[1], empty[1] = conv(3, 3), conv(3, 3).to(device)
    which = {"filter_fn": lambda module, fqn: fqn == "1"}
    quantize_(packed, LMBConfig(**words), **which)
    quantize_(randomised(packed), LMBConfig(step="convert"), **which)
    quantize_(empty, LMBConfig(step="prepare_for_loading", **words), **which)
    quantize_(empty, LMBConfig(step="prepare_for_loading", **words), **which)
    assert empty[1].config == packed[1].config
    assert {tensor.device.type for tensor in empty[1].buffers()} == {device}
    empty.load_state_dict(packed.state_dict(), strict=True, assign=True)
    assert_same_packed(empty, packed)


def test_an_empty_layer_in_the_place_of_a_training_form():
    net = binarize(small_net(), "lmb")
    packed, words = convert(net), {"skip": True, "step": "prepare_for_loading"}
    with pytest.raises(LMBError, match="act: 'none' is asked for, but the layer is binary already"):
        quantize_(net, LMBConfig(act="none", **words), filter_fn=is_binary)
    quantize_(net, LMBConfig(**words), filter_fn=is_binary)
    net.load_state_dict(packed.state_dict(), strict=True, assign=True)
    assert_same_packed(net, packed)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Linear(3, 3), conv(3, 3, padding_mode="reflect")], ids=repr)
def test_what_cannot_be_an_empty_layer(module):
    with pytest.raises(LMBError, match="cannot become binary"):
        quantize_(nn.Sequential(module), LMBConfig(step="prepare_for_loading"), filter_fn=lambda m, fqn: fqn == "0")
