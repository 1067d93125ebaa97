# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/rewrite: plan() and binarize() on networks easy and awkward."""

import copy
import pickle
import re

import pytest
import torch
from helpers import assert_same_state, binary, chain, config, conv, recipe, rules, small_net, state_of
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import lmb_quant as lmb
from lmb_quant import RecipeError
from lmb_quant.binarizers import make_activation, make_weight
from lmb_quant.modules import BinaryConv2d
from lmb_quant.rewrite import matches

ALL = recipe(ignore=[])


def named(**layers):
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


# ---- what is rewritten


def test_small_net():
    net = small_net()
    assert lmb.binarize(net, "lmb") is net
    assert binary(net) == ["2", "4"]
    assert net[2].config.skip
    assert net[2].config.act == "rprelu"


@pytest.mark.parametrize("name", ["lmb", "lmb-k5", "sign", "rsign"])
def test_forward_and_backward_give_every_parameter_a_gradient(name):
    net = lmb.binarize(small_net(), name)
    net(torch.rand(2, 3, 9, 8)).square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        if key.endswith("weight"):
            assert float(parameter.grad.abs().max()) > 0, key


def test_parameters_keep_identity_names_and_values():
    net = small_net()
    before, values = dict(net.named_parameters()), state_of(net)
    lmb.binarize(net, "rsign")
    after = dict(net.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert set(after) > set(before)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in values.items())


def test_float_checkpoint_loads_strictly_before_and_after():
    checkpoint, x = small_net().state_dict(), torch.rand(1, 3, 8, 8)
    early, late = small_net(), small_net()
    early.load_state_dict(checkpoint, strict=True)
    lmb.binarize(early, "lmb")
    lmb.binarize(late, "lmb").load_state_dict(checkpoint, strict=True)
    assert torch.equal(early(x), late(x))


def test_root_convolution_gives_a_new_module():
    root = conv(4, 4)
    net = lmb.binarize(root, ALL)
    assert isinstance(net, BinaryConv2d)
    assert net.weight is root.weight
    assert type(root) is nn.Conv2d
    assert "(the model itself)" in str(lmb.plan(root, ALL))


def test_shared_modules_stay_one():
    shared = conv(4, 4)
    net = nn.Sequential(conv(3, 4), shared, nn.ReLU(), shared, nn.ModuleDict({"again": shared})["again"], conv(4, 3))
    planned = lmb.plan(net, "lmb")
    assert [layer.names for layer in planned.binary] == [("1", "3", "4")]
    lmb.binarize(net, "lmb")
    assert isinstance(net[1], BinaryConv2d)
    assert net[1] is net[3] is net[4]


def test_shared_module_matches_by_any_of_its_names():
    shared = conv(4, 4)
    net = named(a=conv(3, 4), b=shared, c=shared, d=conv(4, 3))
    assert rules(lmb.plan(net, recipe(ignore=["@first", "@last"], targets=["c"])))["b"] == "target: c"


def test_tied_parameters_stay_tied():
    net = chain(3, 4, 4, 4, 3)
    net[4].weight = net[2].weight
    lmb.binarize(net, "lmb")
    assert net[4].weight is net[2].weight


def test_idempotent():
    net = lmb.binarize(small_net(), "rsign")
    before, modules = state_of(net), list(net.modules())
    assert lmb.binarize(net, "rsign") is net
    assert list(net.modules()) == modules
    assert_same_state(net, before)
    planned = lmb.plan(net, "rsign")
    assert rules(planned)["2"] == "binary already"
    assert len(planned.binary) == 2


def test_another_recipe_on_a_binary_net_is_an_error():
    net = lmb.binarize(small_net(), "lmb")
    with pytest.raises(RecipeError, match=r"recipe 'sign': layer '2' is binary already, in another way"):
        lmb.binarize(net, "sign")


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"groups": 4},
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"kernel": 1},
        {"kernel": 5},
        {"bias": False},
        {"padding": 0},
        {"padding": "same"},
        {"padding": "valid"},
    ],
    ids=str,
)
def test_convolutions_of_every_kind(options):
    options = dict(options)
    net = nn.Sequential(conv(3, 4), conv(4, 4, options.pop("kernel", 3), **options), conv(4, 3))
    expected = net(torch.rand(1, 3, 12, 12)).shape
    lmb.binarize(net, recipe(ignore=["@first", "@last"]))
    assert binary(net) == ["1"]
    y = net(torch.rand(1, 3, 12, 12))
    assert y.shape == expected
    y.sum().backward()
    assert net[1].weight.grad is not None


@pytest.mark.parametrize("channels", [1, 3, 5, 65])
def test_odd_channels(channels):
    net = lmb.binarize(chain(3, channels, channels, channels, 3), "lmb")
    assert net(torch.rand(1, 3, 6, 6)).isfinite().all()


@pytest.mark.parametrize(
    ("token", "options", "kernel"),
    [("@pointwise", {}, 1), ("@grouped", {"groups": 2}, 3), ("@strided", {"stride": 2}, 3)],
    ids=["pointwise", "grouped", "strided"],
)
def test_tokens_of_the_layer_decide(token, options, kernel):
    net = nn.Sequential(conv(3, 4), conv(4, 4, kernel, **options), conv(4, 4), conv(4, 3))
    assert rules(lmb.plan(net, recipe(ignore=["@first", "@last", token])))["1"] == f"ignore: {token}"


def test_deep_and_odd_names():
    net = conv(3, 3)
    for name in ["a_rather_long_name_of_a_module", *"abcdefgh", "été", "with space", "a[0]"] * 3:
        net = nn.ModuleDict({name: net})
    found = next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    with pytest.warns(UserWarning, match="by registration order"):
        lmb.binarize(net, recipe(ignore=[]))
    assert binary(net) == [found]
    assert found in str(lmb.plan(net, ALL)).replace("\n", "")


# ---- what stays float, by name


class MyConv(nn.Conv2d):
    pass


def with_hook_of_state_dict(layer):
    layer.register_load_state_dict_pre_hook(lambda *_: None)
    return layer


def with_own_forward(layer):
    layer.forward = layer.forward
    return layer


def with_buffer(layer):
    layer.register_buffer("mask", torch.ones(1))
    return layer


UNFIT = {
    "subclass": (lambda: MyConv(4, 4, 3, padding=1), r"MyConv is a subclass of Conv2d"),
    "transposed": (lambda: nn.ConvTranspose2d(4, 4, 3, padding=1), r"ConvTranspose2d is not a Conv2d"),
    "reflect": (lambda: conv(4, 4, padding_mode="reflect"), r"padding_mode 'reflect' \(only 'zeros' can be binary\)"),
    "circular": (lambda: conv(4, 4, padding_mode="circular"), r"padding_mode 'circular'"),
    "weight-norm": (lambda: parametrizations.weight_norm(conv(4, 4)), "weight is computed from other tensors"),
    "spectral-norm": (lambda: parametrizations.spectral_norm(conv(4, 4)), "weight is computed from other tensors"),
    "old-spectral-norm": (lambda: nn.utils.spectral_norm(conv(4, 4)), r"its weight is computed from other tensors"),
    "pruned": (lambda: prune.l1_unstructured(conv(4, 4), "weight", 0.5), r"its weight is computed from other tensors"),
    "pruned-bias": (lambda: prune.l1_unstructured(conv(4, 4), "bias", 0.5), r"buffers"),
    "buffer": (lambda: with_buffer(conv(4, 4)), r"it carries submodules, buffers, a forward or a load_state_dict hook"),
    "own-forward": (lambda: with_own_forward(conv(4, 4)), r"it carries submodules, buffers, a forward"),
    "state-dict-hook": (lambda: with_hook_of_state_dict(conv(4, 4)), r"load_state_dict hook of its own"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(("make", "reason"), UNFIT.values(), ids=UNFIT)
def test_unfit_layers_are_named_and_left_alone(make, reason):
    layer = make()
    net = named(head=conv(3, 4), unfit=layer, body=conv(4, 4), tail=conv(4, 3))
    planned = lmb.plan(net, "lmb")
    (row,) = [row for row in planned.layers if "unfit" in row.name and row.decision == "float"][:1]
    assert re.search(reason, row.rule), row.rule
    lmb.binarize(net, "lmb")
    assert net.unfit is layer
    assert binary(net) == ["body"]
    net(torch.rand(1, 3, 8, 8)).sum().backward()


def test_linear_is_named():
    net = nn.Sequential(conv(3, 4), conv(4, 4), conv(4, 4), nn.Flatten(), nn.Linear(4 * 24 * 24, 2))
    assert rules(lmb.plan(net, "lmb"))["4"] == "Linear is not a Conv2d"


def test_convolutions_held_in_a_plain_list_are_named():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4), conv(4, 4), conv(4, 3)
            self.order = [self.a, self.b]

        def forward(self, x):
            for layer in self.order:
                x = layer(x)
            return self.d(self.c(x))

    net = Listed()
    assert (
        rules(lmb.plan(net, "lmb"))["b"]
        == "it is also held in the plain attribute 'order', where a rewrite cannot replace it"
    )
    lmb.binarize(net, "lmb")
    assert binary(net) == ["c"]


def test_convolutions_that_do_not_run_stay_float():
    class Reparameterised(nn.Module):
        """As ECBSR: the module runs in training; in eval its weight is used by itself."""

        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4), conv(4, 4), conv(4, 3)

        def forward(self, x):
            x = self.a(x)
            x = self.b(x) if self.training else F.conv2d(x, self.b.weight, self.b.bias, padding=1)
            return self.d(self.c(x))

    assert rules(lmb.plan(Reparameterised(), "lmb"))["b"] == "it did not run in the trial run, which is in eval mode"


def test_lazy_layers_are_named():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 3))
    with pytest.raises(
        RecipeError, match=r"selects no layer of 2\. 0: LazyConv2d has no weights yet; run the model once first"
    ):
        lmb.plan(net, "lmb")


def test_lazy_layers_that_have_run_are_convolutions():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 3), nn.LazyConv2d(3, 3))
    net(torch.rand(1, 3, 24, 24))
    assert binary(lmb.binarize(net, "lmb")) == ["1"]


# ---- identity skips


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(4, 4), conv(4, 4)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


@pytest.mark.parametrize(
    ("skip", "expected"), [("auto", (True, False)), ("shape", (True, True)), ("none", (False, False))], ids=str
)
def test_skip_modes(skip, expected):
    net = lmb.binarize(nn.Sequential(conv(3, 4), Block(), conv(4, 3)), recipe(unit={"skip": skip}))
    assert (net[1].conv1.config.skip, net[1].conv2.config.skip) == expected


def test_no_skip_where_the_shape_changes():
    net = nn.Sequential(conv(3, 4), conv(4, 6), conv(6, 6, stride=2), conv(6, 6, padding=0), conv(6, 6), conv(6, 3))
    lmb.binarize(net, recipe(unit={"skip": "shape"}))
    assert [layer.config.skip for layer in net[1:5]] == [False, False, False, True]


# ---- models that are hard to run


def test_network_that_cannot_be_run_warns_and_goes_by_order():
    class Dictionary(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = conv(3, 4), conv(4, 4), conv(4, 3)

        def forward(self, batch):
            return {"sr": self.c(self.b(self.a(batch["lq"])))}

    net = Dictionary()
    with pytest.warns(UserWarning, match=r"the parts of the network were found by registration order.*check plan\(\)"):
        lmb.binarize(net, "lmb")
    assert binary(net) == ["b"]
    assert net({"lq": torch.rand(1, 3, 8, 8)})["sr"].shape == (1, 3, 8, 8)


def test_each_layer_is_built_once(monkeypatch):
    built, make = [], BinaryConv2d.from_float
    monkeypatch.setattr(BinaryConv2d, "from_float", lambda conv, config: built.append(conv) or make(conv, config))
    net = small_net()
    layers = [layer.name for layer in lmb.plan(net, recipe()).binary]
    convs = [net.get_submodule(name) for name in layers]
    built.clear()
    lmb.binarize(net, recipe())
    assert [conv for conv in built if conv in convs] == convs


def test_plan_changes_nothing():
    net = small_net().train()
    net[2].register_forward_hook(lambda *_: pytest.fail("a hook ran"))
    before, modules, rng = state_of(net), list(net.modules()), torch.get_rng_state()
    lmb.plan(net, recipe("rsign", unit={"norm": "batch"}))
    assert_same_state(net, before)
    assert list(net.modules()) == modules
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(len(module._forward_hooks) == (name == "2") for name, module in net.named_modules())


def test_binarize_leaves_the_random_numbers_alone():
    rng = torch.get_rng_state()
    net = small_net()
    after_build = torch.get_rng_state()
    lmb.binarize(net, recipe("rsign", unit={"norm": "batch"}))
    assert torch.equal(torch.get_rng_state(), after_build)
    assert not torch.equal(rng, after_build)


def test_hooks_run_in_the_binary_net():
    net, seen = small_net(), []
    handle = net[2].register_forward_hook(lambda module, *_: seen.append(type(module)))
    lmb.binarize(net, "lmb")
    net(torch.rand(1, 3, 8, 8))
    assert seen == [BinaryConv2d]
    handle.remove()
    net(torch.rand(1, 3, 8, 8))
    assert len(seen) == 1


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_kept(training):
    net = lmb.binarize(small_net().train(training), recipe(unit={"norm": "batch"}))
    assert all(module.training == training for module in net.modules())


def test_deepcopy_and_pickle_of_a_binary_net():
    net, x = lmb.binarize(small_net(), "rsign"), torch.rand(1, 3, 8, 8)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
        assert list(other.state_dict()) == list(net.state_dict())


def test_data_parallel_wrapper():
    net = lmb.binarize(nn.DataParallel(small_net()), "lmb")
    assert binary(net) == ["module.2", "module.4"]


def test_graph_module():
    net = torch.fx.symbolic_trace(small_net())
    assert binary(lmb.binarize(net, "lmb")) == ["2", "4"]
    assert net(torch.rand(1, 3, 8, 8)).isfinite().all()


def test_meta_model():
    net = lmb.binarize(small_net().to("meta"), "rsign")
    assert all(parameter.is_meta for parameter in net.parameters())


def test_filters_of_zeros_are_warned_about():
    net = small_net()
    nn.init.zeros_(net[2].weight)
    with pytest.warns(UserWarning, match=r"filters of zeros have the scale 0 and get no gradient; .*: 2$"):
        lmb.binarize(net, "lmb")
    net(torch.rand(1, 3, 8, 8)).sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in net.parameters())


def test_training_moves_the_weights():
    net = lmb.binarize(small_net(), "lmb")
    optimizer, x = torch.optim.Adam(net.parameters(), 1e-2), torch.rand(4, 3, 12, 12)
    losses = []
    for _ in range(30):
        loss = F.mse_loss(net(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("body.1.*", "body.1.conv", True),
        ("body.1.*", "body.10.conv", False),
        ("body.1*", "body.10.conv", True),
        ("body.?.conv", "body.7.conv", True),
        ("body.?.conv", "body.17.conv", False),
        ("body.[0-3].*", "body.2.conv", True),
        ("body.[0-3].*", "body.12.conv", False),
        ("*.conv", "a.b.c.conv", True),
        ("conv", "conv1", False),
        ("Conv", "conv", False),
        (r"re:body\.1\..*", "body.1.conv", True),
        (r"re:body\.1\..*", "body.10.conv", False),
        (r"re:body\.1", "body.1.conv", False),
        (r"re:body\.\d+\.conv", "body.12.conv", True),
        ("re:body.1.*", "body.10.conv", True),
        ("re:a|b", "ab", False),
    ],
)
def test_patterns_match_in_full(pattern, name, expected):
    assert matches(pattern, name) is expected


def many():
    """head, body.0 ... body.11, tail."""
    return named(head=conv(3, 2), body=nn.Sequential(*(conv(2, 2) for _ in range(12))), tail=conv(2, 3))


def test_overrides_first_match_wins():
    changed = recipe(
        overrides=[
            {"match": "body.1", "activation": {"window": 5}},
            {"match": "re:body\\.1.", "skip_layer": True},
            {"match": "body.3", "activation": {"binarizer": "sign"}, "unit": {"act": "none", "norm": "batch"}},
            {"match": "body.*", "weight": {"scale": "one", "kappa": 2.0}},
        ]
    )
    net = many()
    assert rules(lmb.plan(net, changed)) == {
        "head": "ignore: @first",
        "tail": "ignore: @last",
        "body.1": "override: body.1",
        "body.3": "override: body.3",
        **{f"body.{i}": "override: re:body\\.1.: skip_layer" for i in (10, 11)},
        **{f"body.{i}": "override: body.*" for i in (0, 2, 4, 5, 6, 7, 8, 9)},
    }
    body = lmb.binarize(net, changed).body
    assert body[1].binarize_input.window == 5
    assert body[1].config.activation_options["surrogate"] == "approx_sign"
    assert type(body[10]) is nn.Conv2d
    assert body[3].config.activation == "sign"
    assert "window" not in body[3].config.activation_options  # options are not carried to another binariser
    assert (body[3].config.act, body[3].config.norm) == ("none", "batch")
    assert (body[5].config.alpha, body[5].binarize_weight.get_options()["kappa"]) == ("one", 2.0)
    assert body[5].config.weight_options["surrogate"] == "adaptive_triangle"


def test_targets_by_pattern():
    planned = lmb.plan(many(), recipe(targets=["body.1", "re:body\\.1."]))
    assert [layer.name for layer in planned.binary] == ["body.1", "body.10", "body.11"]
    assert rules(planned)["body.2"] == "no target matches"


BAD = {
    "ignore-typo": (
        {"ignore": ["bdoy.1"]},
        r"recipe: ignore: 'bdoy\.1' matches no layer\. unknown layer 'bdoy\.1'\. Did you mean 'body\.1'\?",
    ),
    "ignore-partial-regex": ({"ignore": ["re:bod"]}, r"ignore: 're:bod' matches no layer"),
    "ignore-nothing": ({"ignore": [""]}, r"ignore: '' matches no layer"),
    "target-typo": ({"targets": ["conv2d"]}, r"targets: 'conv2d' matches no layer"),
    "target-token": ({"targets": ["@first"]}, r"targets.*'@first'.*ignore"),
    "override-token": ({"overrides": [{"match": "@last", "skip_layer": True}]}, r"overrides.*'@last'.*ignore"),
    "override-typo": (
        {"overrides": [{"match": "bdy.0", "skip_layer": True}]},
        r"overrides: 'bdy\.0' matches no layer.*Did you mean 'body\.0'\?",
    ),
    "override-float": (
        {"overrides": [{"match": "head", "skip_layer": True}]},
        r"overrides: 'head' matches only layers that stay float all the same: head \(ignore: @first\)",
    ),
    "override-shadowed": (
        {"overrides": [{"match": "*", "activation": {"window": 5}}, {"match": "body.1", "skip_layer": True}]},
        r"overrides\[1\]: 'body\.1' never decides",
    ),
    "activation": (
        {"activation": {"binarizer": "sing"}},
        r"unknown activation binarizer 'sing'\. Did you mean 'sign'\?",
    ),
    "weight": ({"weight": {"binarizer": "sine"}}, r"unknown weight binarizer 'sine'\. Did you mean 'sign'\?"),
    "option": (
        {"activation": {"windwo": 5}},
        r"unknown option of activation binarizer 'local_mean': 'windwo'\. Did you mean 'window'\?",
    ),
    "weight-option": (
        {"weight": {"kapa": 5.0}},
        r"unknown option of weight binarizer 'sign': 'kapa'\. Did you mean 'kappa'\?",
    ),
    "window-even": ({"activation": {"window": 4}}, r"window: 4 is not allowed\. Allowed: an odd number of pixels"),
    "window-negative": ({"activation": {"window": -3}}, r"window: -3 is not allowed"),
    "window-text": ({"activation": {"window": "3"}}, r"window: '3' is not allowed"),
    "surrogate": ({"activation": {"surrogate": "tahn"}}, r"unknown surrogate 'tahn'\. Did you mean 'tanh'\?"),
    "weight-surrogate": (
        {"weight": {"surrogate": "adaptiv_triangle"}},
        r"unknown surrogate .*Did you mean 'adaptive_triangle'\?",
    ),
    "scale": ({"weight": {"scale": "layermean"}}, r"unknown weight scale 'layermean'\. Did you mean 'layer_mean'\?"),
    "norm": ({"unit": {"norm": "batchnorm"}}, r"unknown unit norm 'batchnorm'"),
    "act": ({"unit": {"act": "prleu"}}, r"unknown unit act 'prleu'\. Did you mean 'prelu'\?"),
    "kappa": ({"weight": {"kappa": 0.0}}, r"kappa: 0\.0 is not allowed"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_recipes(changes, message):
    net = many()
    before = list(net.modules())
    for function in (lmb.plan, lmb.binarize):
        with pytest.raises(RecipeError, match=message):
            function(net, recipe(**changes))
    assert list(net.modules()) == before, "the model was changed before the error"


def test_bad_name_in_an_override_names_the_layer():
    with pytest.raises(RecipeError, match=r"layer 'body\.2': unknown activation binarizer 'sgn'"):
        lmb.plan(many(), recipe(overrides=[{"match": "body.2", "activation": {"binarizer": "sgn"}}]))


def test_bad_name_in_a_scheme_that_is_overridden_everywhere():
    changed = recipe(activation={"binarizer": "sing"}, overrides=[{"match": "*", "activation": {"binarizer": "sign"}}])
    with pytest.raises(RecipeError, match=r"scheme: unknown activation binarizer 'sing'"):
        lmb.plan(many(), changed)


def test_no_layer_selected_says_why():
    with pytest.raises(RecipeError, match=r"recipe 'lmb': selects no layer of 2\. 0: ignore: @first; 2: ignore: @last"):
        lmb.binarize(chain(3, 4, 3), "lmb")


def test_no_layer_at_all():
    for net in (nn.Sequential(), nn.ReLU()):
        with pytest.raises(RecipeError, match=r"the model has no layer with weights"):
            lmb.binarize(net, "lmb")
    with pytest.raises(RecipeError, match=r"selects no layer of 1\. 0: Linear is not a Conv2d"):
        lmb.binarize(nn.Sequential(nn.Linear(2, 2)), "lmb")


def test_not_a_module():
    with pytest.raises(TypeError, match=r"model: 'net' is not allowed\. Allowed: a torch\.nn\.Module"):
        lmb.plan("net", "lmb")


@pytest.mark.parametrize("size", [5, "x", (), (0, 3, 8, 8), (1, 3, 8.0, 8)])
def test_what_is_no_input_size(size):
    with pytest.raises(RecipeError, match=r"input_size: .* is not allowed. Allowed: the input's size"):
        lmb.plan(small_net(), "lmb", input_size=size)


def test_input_size_that_does_not_fit_is_an_error():
    with pytest.raises(RecipeError, match=r"input_size: the model does not run on an input of size \(1, 4, 8, 8\)"):
        lmb.binarize(small_net(), "lmb", input_size=(1, 4, 8, 8))


OTHERS = [{"match": "head", "torchao": {"_type": "Int8WeightOnlyConfig", "_data": {}}}]


def test_a_packed_network_is_refused():
    packed = lmb.convert(lmb.binarize(many(), recipe()))
    for do in (lmb.plan, lmb.binarize):
        with pytest.raises(RecipeError, match=r"layer '.*' is packed already, for inference only. Allowed: a float"):
            do(packed, recipe(ignore=[]))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (conv(8, 8, 33), r"it has no packed form: kernel_size: (33, 33) is not allowed. Allowed: 2 whole, 1 to 31."),
        (conv(8, 8, 3, padding=2000, dilation=2000), r"it has no packed form: dilation: (2000, 2000)"),
    ],
    ids=["kernel", "dilation"],
)
def test_what_is_too_large_for_the_packed_form_stays_float(layer, reason):
    net = nn.Sequential(conv(3, 8), layer, conv(8, 8), conv(8, 3))
    assert rules(lmb.plan(net, "lmb"))["1"].startswith(reason)
    lmb.convert(lmb.binarize(net, "lmb"))
    with pytest.raises(RecipeError, match=r"selects no layer.*(kernel_size|dilation)"):
        lmb.plan(layer, recipe(ignore=[]))


def test_tied_layers_become_binary_together_or_not_at_all():
    net = chain(3, 8, 8, 8, 8, 3)
    net[4].weight = net[2].weight
    assert rules(lmb.plan(net, "lmb"))["4"] == "target: Conv2d"
    planned = lmb.plan(net, recipe(ignore=["@first", "@last", "2"]))
    assert rules(planned)["4"] == "its weight is also that of '2', which stays float"
    assert [layer.name for layer in planned.binary] == ["6"]
    skipped = lmb.plan(net, recipe(overrides=[{"match": "4", "skip_layer": True}]))
    assert rules(skipped)["2"] == "its weight is also that of '4', which stays float"
    linear = nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 3), nn.Linear(3, 3))
    linear[3].weight = linear[1].weight
    assert "also that of '3'" in rules(lmb.plan(linear, recipe(ignore=["0"])))["1"]


def test_others_need_torchao():
    with pytest.raises(
        RecipeError, match=r"others: .* need torchao\. Use quantize_\(model, to_torchao\(recipe, model\)"
    ):
        lmb.binarize(many(), recipe(others=OTHERS))


def test_others_in_a_plan():
    planned = lmb.plan(many(), recipe(others=OTHERS))
    (row,) = [layer for layer in planned.layers if layer.decision == "torchao"]
    assert (row.name, row.rule, row.torchao) == ("head", "others: head", OTHERS[0]["torchao"])
    with pytest.raises(RecipeError, match=r"others: 'body\.1' matches only layers that become binary all the same"):
        lmb.plan(many(), recipe(others=[{**OTHERS[0], "match": "body.1"}]))


def test_a_layer_that_an_override_leaves_to_torchao():
    skipped = [{"match": "body.1", "skip_layer": True}]
    planned = lmb.plan(many(), recipe(overrides=skipped, others=[{**OTHERS[0], "match": "body.1"}]))
    assert [layer.name for layer in planned.layers if layer.decision == "torchao"] == ["body.1"]


# ---- the plan


def test_plan_names_layer_shape_decision_rule_and_bytes():
    planned = lmb.plan(small_net(), "lmb")
    first, middle = planned.layers[:2]
    assert (first.name, first.kind, first.shape, first.decision, first.rule) == (
        "0",
        "Conv2d",
        (8, 3, 3, 3),
        "float",
        "ignore: @first",
    )
    assert (middle.decision, middle.rule, middle.bytes_before) == ("binary", "target: Conv2d", 4 * (8 * 8 * 9 + 8))
    assert middle.bytes_after == 8 * 9 + 4 * (8 + 8 + 24)
    assert first.bytes_before == first.bytes_after == 4 * (8 * 3 * 9 + 8)
    text = str(planned)
    assert "recipe lmb; parts found by a trial run on an input of size (1, 3, 24, 24)" in text
    for word in ("8x3x3x3", "ignore: @first", "target: Conv2d", "2 binary", "2,336", "232"):
        assert word in text


def test_plan_equals_what_binarize_does():
    net = many()
    planned = lmb.plan(net, "rsign")
    lmb.binarize(net, "rsign")
    assert binary(net) == [layer.name for layer in planned.binary]
    for layer in planned.binary:
        assert net.get_submodule(layer.name).config == layer.config
        assert net.get_submodule(layer.name).packed_bytes == layer.bytes_after


def test_config_holds_every_option_with_its_value():
    found = lmb.plan(small_net(), "lmb").binary[0].config
    assert found.activation_options == make_activation(conv(8, 8), "local_mean", {}).get_options()
    assert found.weight_options == make_weight(conv(8, 8), "sign", {}).get_options()
    assert found == config(
        activation_options=found.activation_options, weight_options=found.weight_options, act="rprelu", skip=True
    )
