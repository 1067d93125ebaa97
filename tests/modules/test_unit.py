# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/modules/conv: rescalers, a norm of the input, an act after the skip, and state shared along the depth."""

import copy
import io
from itertools import pairwise

import pytest
import torch
from helpers import assert_same_state, chain, config, conv, recipe, rules, small_net, state_of
from torch import nn
from torch.nn import functional as F

import lmb_quant as lmb
from lmb_quant import LMBError, RecipeError
from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.modules import BinaryConv2d, binary_convs
from lmb_quant.parts import options_model
from lmb_quant.rescalers import Rescaler, rescaler, rescalers
from lmb_quant.schema import recipe_schema

NAMES = ["abcnet", "bam", "e2fif", "ebsr", "lab", "scales", "xnor"]
names = pytest.mark.parametrize("name", NAMES)


def sr_net(recipe=None, **options):
    return LMBSRResNet(**{"num_feat": 8, "num_block": 2, "upscale": 2, **options}, recipe=recipe)


def image(*size):
    return torch.rand(*size, generator=torch.Generator().manual_seed(1))


# ---- what holds for every unit


@names
def test_float_checkpoint_loads_before_and_after(name):
    donor = sr_net()
    nn.init.normal_(donor.tail[0].weight)
    before, after = sr_net(), lmb.binarize(sr_net(), name)
    before.load_state_dict(donor.state_dict(), strict=True)
    lmb.binarize(before, name)
    kept = state_of(after)
    after.load_state_dict(donor.state_dict(), strict=True)
    assert set(donor.state_dict()) < set(after.state_dict())
    assert all(torch.equal(after.state_dict()[key], kept[key]) for key in set(kept) - set(donor.state_dict()))
    assert torch.equal(before.eval()(image(1, 3, 7, 6)), after.eval()(image(1, 3, 7, 6)))


@names
def test_copies_and_checkpoints_give_the_same(name):
    net = sr_net(name)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    net(image(2, 3, 6, 7))  # in training mode: moves the running statistics
    buffer, other = io.BytesIO(), sr_net(name)
    torch.save(net.eval(), buffer)
    buffer.seek(0)
    other.load_state_dict(net.state_dict(), strict=True)
    for same in (other.eval(), copy.deepcopy(net), torch.load(buffer, weights_only=False)):
        assert torch.equal(same(image(1, 3, 7, 6)), net(image(1, 3, 7, 6)))


@names
def test_a_rewrite_takes_no_random_number_and_is_the_same_again(name):
    nets = [sr_net() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    state = torch.get_rng_state()
    lmb.plan(nets[0], name)
    for net in nets:
        lmb.binarize(net, name)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_state(nets[1], state_of(nets[0]))


@names
def test_binary_networks_stay_as_they_are(name):
    net = sr_net(name)
    before, layers = state_of(net), list(binary_convs(net))
    planned = lmb.plan(net, name)
    assert [layer.name for layer in planned.layers] == [layer.name for layer in lmb.plan(sr_net(), name).layers]
    assert [layer.config for layer in planned.binary] == [layer.config for layer in layers]
    assert list(rules(planned).values()).count("binary already") == 4
    lmb.binarize(net, name)
    assert list(binary_convs(net)) == layers
    assert_same_state(net, before)


@names
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["fp64", "bf16"])
@pytest.mark.parametrize("before", [True, False], ids=["cast-before", "cast-after"])
def test_dtypes_and_unbatched_input(name, dtype, before):
    net = lmb.binarize(sr_net().to(dtype), name) if before else sr_net(name).to(dtype)
    nn.init.normal_(net.tail[0].weight)
    y = net(image(2, 3, 6, 6).to(dtype))
    assert y.dtype == dtype
    y.float().square().mean().backward()
    for key, parameter in net.named_parameters():
        assert (parameter.dtype, parameter.grad.dtype) == (dtype, dtype), key
        assert bool(parameter.grad.isfinite().all()), key
    layer = next(binary_convs(net.eval()))
    x = image(8, 6, 5).to(dtype)
    assert torch.equal(layer(x), layer(x[None])[0])


@names
def test_autocast_and_channels_last(name):
    net = sr_net(name)
    nn.init.normal_(net.tail[0].weight, std=0.1)
    x = image(2, 3, 8, 7)
    expected = net(x).detach()
    last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


@names
def test_training_compiles_as_one_graph(name):
    net = lmb.binarize(chain(3, 4, 4, 4, 3), name)
    x = image(2, 3, 8, 8)
    expected = net(x)
    expected.square().mean().backward()
    grads = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    y = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    y.square().mean().backward()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    for grad, parameter in zip(grads, net.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rescale": "ebsr"}, r"rescaler 'ebsr' has no packed form \(packed_factor\(\)\)"),
        ({"pre_norm": "batch"}, r"unit pre_norm: 'batch' has no packed form\. Allowed: 'none'\."),
        ({"activation": "bam", "activation_options": {}}, r"activation binarizer 'bam' has no packed form"),
        ({"weight": "abcnet", "weight_options": {}}, r"weight binarizer 'abcnet' has no packed form"),
    ],
    ids=["rescale", "pre_norm", "activation", "weight"],
)
def test_what_does_not_pack_is_refused_by_name(changes, message):
    layer = BinaryConv2d.from_float(conv(4, 4), config(**changes))
    with pytest.raises(LMBError, match=message):
        lmb.convert(layer)


def test_an_act_on_the_sum_packs():
    act = {"act": "rprelu", "skip": True}
    for changes in (act, {"act": "prelu"}, {"act": "identity", "skip": True}, {"skip": True}):
        layer = BinaryConv2d.from_float(conv(4, 4), config(act_on="sum", **changes)).eval()
        x = image(1, 4, 6, 5)
        with torch.no_grad():
            torch.testing.assert_close(lmb.convert(layer)(x), layer(x), rtol=1e-4, atol=1e-5)


# ---- recipe words


def test_act_on():
    x = torch.tensor([-4.0, 2.0]).view(1, 1, 1, 2)
    layers = {}
    for word in ("branch", "sum"):
        float_conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(float_conv.weight, 1.0)
        changes = {"activation": "sign", "act": "leaky_relu", "skip": True, "act_on": word}
        layers[word] = BinaryConv2d.from_float(float_conv, config(**changes))
    torch.testing.assert_close(layers["branch"](x).flatten(), torch.tensor([-0.1 - 4, 1 + 2]))
    torch.testing.assert_close(layers["sum"](x).flatten(), torch.tensor([-0.5, 3.0]))
    with pytest.raises(LMBError, match=r"unknown unit act_on 'summ'\. Did you mean 'sum'\? Allowed: branch, sum"):
        BinaryConv2d.from_float(conv(1, 1), config(act_on="summ"))


def test_inner_sum_has_no_act_where_a_block_of_the_network_ends():
    acts = {name: layer.config.act for name, layer in planned_layers(sr_net(), "e2fif")}
    assert list(acts) == [f"body.{block}.conv{number}" for block in (0, 1) for number in (1, 2)]
    assert list(acts.values()) == ["leaky_relu", "identity"] * 2
    vdsr = LMBVDSR(num_feat=4, num_conv=3, upscale=2, recipe=None)
    assert {layer.config.act for _, layer in planned_layers(vdsr, "e2fif")} == {"leaky_relu"}


def planned_layers(net, name):
    return [(layer.name, layer) for layer in lmb.plan(net, name).binary]


def test_unknown_words():
    for changes, message in (
        (
            {"rescale": {"rescaler": "ebrs"}},
            r"unknown rescaler 'ebrs'\. Did you mean 'ebsr'\? Allowed: ebsr, input_mean",
        ),
        (
            {"rescale": {"rescaler": "ebsr", "size": 3}},
            r"unknown option of rescaler 'ebsr': 'size'\. Allowed: \(none\)",
        ),
        ({"rescale": {}}, r"scheme\.rescale: the key 'rescaler' is missing"),
        ({"unit": {"pre_norm": "bach"}}, r"unknown unit norm 'bach'\. Did you mean 'batch'\?"),
        ({"unit": {"act_on": "sums"}}, r"unit\.act_on: 'sums' is not allowed"),
        ({"unit": {"chain": 0}}, r"unit\.chain: 0 is not allowed"),
    ):
        scheme = lmb.Recipe.load("lmb").to_dict()["scheme"]
        with pytest.raises(RecipeError, match=message):
            lmb.plan(small_net(), recipe(scheme=scheme | changes))


def test_schema_has_the_rescalers():
    definition = recipe_schema()["$defs"]["RescaleChoice"]
    assert definition["properties"]["rescaler"]["enum"] == sorted(rescalers())


def test_recipes_without_the_new_words_are_written_as_before():
    assert set(lmb.Recipe.load("lmb").to_dict()["scheme"]) == {"activation", "weight", "unit"}
    assert set(lmb.Recipe.load("lmb").to_dict()["scheme"]["unit"]) == {"skip", "norm", "act"}
    loaded = lmb.Recipe.load("xnor")
    assert lmb.Recipe.load(loaded.to_dict()) == loaded
    assert loaded.scheme.rescale.rescaler == "input_mean"


def test_overrides_keep_the_rescaler():
    net = lmb.binarize(sr_net(), recipe("ebsr", overrides=[{"match": "body.0.*", "unit": {"act": "prelu"}}]))
    assert [conv.config.rescale for conv in binary_convs(net)] == ["ebsr"] * 4
    assert [conv.config.act for conv in binary_convs(net)] == ["prelu", "identity", "leaky_relu", "identity"]


def test_a_new_rescaler_is_one_class():
    before = dict(rescalers())
    try:

        @rescaler("double", source="a test")
        class Double(Rescaler):
            """The factor ``times``."""

            def __init__(self, *, times: float = 2.0) -> None:
                super().__init__()
                self.times = times

            def forward(self, x):
                return x, x.new_full((1, 1, 1, 1), self.times)

            def get_options(self):
                return {"times": self.times}

        assert set(options_model(Double).model_fields) == {"times"}
        plain = BinaryConv2d.from_float(conv(3, 5), config())
        layer = BinaryConv2d.from_float(plain, config(rescale="double", rescale_options={"times": 3.0}))
        x, bias = image(1, 3, 6, 5), plain.bias.view(1, -1, 1, 1)
        torch.testing.assert_close(layer(x) - bias, 3 * (plain(x) - bias))
        assert layer.config.rescale_options == {"times": 3.0}
        with pytest.raises(LMBError, match=r"rescaler name 'double' is already taken by .*Double"):
            rescaler("double", source="a test")(Double)
        with pytest.raises(LMBError, match=r"rescaler 'double': times: 'x' is not allowed"):
            BinaryConv2d.from_float(conv(3, 5), config(rescale="double", rescale_options={"times": "x"}))
    finally:
        from lmb_quant.rescalers import _registry

        _registry._rescalers.clear()
        _registry._rescalers.update(before)


# ---- state along the depth


def places(net):
    """Chains by number, in order of the layers, with the marks of first and last."""
    found, rows = {}, []
    for layer in binary_convs(net):
        place = layer.binarize_input.place
        rows.append((found.setdefault(id(place.chain), len(found)), place.is_first, place.is_last))
        other = layer.binarize_weight.place
        assert (other.is_first, other.is_last) == (place.is_first, place.is_last)
        assert other.chain is not place.chain
    return rows


def test_chains_join_consecutive_layers_of_one_module():
    blocks = lmb.binarize(sr_net(), "bam")
    assert places(blocks) == [(0, True, False), (0, False, True), (1, True, False), (1, False, True)]
    row = LMBVDSR(num_feat=4, num_conv=5, upscale=2, recipe="bam")
    assert places(row) == [(0, True, False), (0, False, False), (0, False, True), (1, True, False), (1, False, True)]
    ends = [(0, True, True), (1, True, True), (2, True, False), (2, False, True)]
    assert places(lmb.binarize(chain(3, 4, 6, 8, 8, 8, 3), "bam"))[-4:] == ends  # one shape
    alone = lmb.binarize(sr_net(), recipe("bam", unit={"chain": 1}))
    assert all(layer.binarize_input.place is None for layer in binary_convs(alone))


def test_chains_are_empty_between_runs_and_survive_an_interrupted_one():
    net = lmb.binarize(sr_net(), "bam").eval()
    x = image(1, 3, 7, 6)
    expected = net(x)
    chains = [part.place.chain for layer in binary_convs(net) for part in (layer.binarize_input, layer.binarize_weight)]
    assert all(c.total is None for c in chains)
    handle = net.body[0].conv2.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net(image(2, 3, 9, 9))
    assert any(c.total is not None for c in chains)
    handle.remove()
    other = copy.deepcopy(net)  # takes nothing of the interrupted run
    assert torch.equal(net(x), expected)
    assert torch.equal(other(x), expected)
    assert other.body[0].conv1.binarize_input.place.chain is other.body[0].conv2.binarize_input.place.chain
    assert other.body[0].conv1.binarize_input.place.chain is not net.body[0].conv1.binarize_input.place.chain


def test_layers_of_a_chain_at_other_sizes_are_refused():
    net = nn.Sequential(conv(3, 4), conv(4, 4), nn.AvgPool2d(2), conv(4, 4), conv(4, 3))
    net = lmb.binarize(net, recipe("bam", ignore=["@first", "@last"]), input_size=(1, 3, 8, 8))
    with pytest.raises(LMBError, match=r"unit chain: \(1, 4, 4, 4\) cannot be added to \(1, 4, 8, 8\)"):
        net(image(1, 3, 8, 8))


def test_a_layer_sees_what_the_layers_before_it_saw():
    """The last layer's bits change with the first one's input, though its own input is the same."""
    net = lmb.binarize(chain(3, 4, 4, 4, 3), "bam").eval()
    first, last = binary_convs(net)
    x, seen = image(1, 4, 6, 6) - 0.5, []
    for other in (x, -x):
        first.binarize_input(other)
        seen.append(last.binarize_input(x))
    assert not torch.equal(*seen)
    assert all(bool(((bits == 1) | (bits == -1)).all()) for bits in seen)
    assert F.l1_loss(*seen) > 0
    assert all(a is not b for a, b in pairwise(seen))
