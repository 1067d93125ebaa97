# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/modules/last_reader.py: in nn.Sequential results take the place of inputs that nobody else reads."""

import gc
import importlib
import importlib.util
import sys
import weakref

import pytest
import torch
from helpers import config, conv
from torch import nn

import lmb_quant as lmb
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d, last_reader, packed
from lmb_quant.ops import _memory
from lmb_quant.ops._library import find

pytestmark = [
    pytest.mark.skipif(find()[0] is None, reason="no engine"),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="references to arguments are borrowed there"),
]


@pytest.fixture(autouse=True)
def small_ones_count(monkeypatch):
    monkeypatch.setattr(last_reader, "LEAST", 1)
    monkeypatch.setattr(_memory, "LEAST", 1)


def layer(inputs=8, outputs=8):
    words = {"act": "rprelu", "skip": inputs == outputs}
    return PackedBinaryConv2d.from_binary(BinaryConv2d.from_float(conv(inputs, outputs), config(**words)).eval())


def image(channels=8):
    return torch.randn(1, channels, 12, 10).contiguous(memory_format=torch.channels_last)


@pytest.fixture
def places(monkeypatch):
    """Whether each packed layer wrote over its input."""
    found, run = [], packed.DirectLayer.run

    def noted(self, x, overwrite):
        y = run(self, x, overwrite)
        found.append(y is x)
        return y

    monkeypatch.setattr(packed.DirectLayer, "run", noted)
    return found


def apart(net, x):
    """The same by layers that never write over an input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "is_spent", lambda x: False)
        return net(x)


def test_all_but_the_first_layer_of_a_sequence_write_over_their_input(places):
    net, x = (
        nn.Sequential(layer(), layer(), nn.ReLU(inplace=True), layer(), nn.PReLU(), layer(8, 5), layer(5, 5)),
        image(),
    )
    before = x.clone()
    with torch.no_grad():
        y = net(x)
        assert places == [False, True, True, False, True]
        assert torch.equal(x, before)
        again = net(x)
        assert again.data_ptr() != y.data_ptr()
        assert torch.equal(again, y)
        assert torch.equal(apart(net, x), y)


class Keeps(nn.Module):
    """Hands on what it gets, and keeps it in some way."""

    def __init__(self, keep):
        super().__init__()
        self.keep, self.kept = keep, None

    def forward(self, x):
        self.kept = self.keep(x)
        return x


WAYS = {
    "itself": lambda x: x,
    "list": lambda x: [x],
    "view": lambda x: x.view(-1) if x.is_contiguous() else x[:, 1:],
    "permuted": lambda x: x.permute(0, 2, 3, 1),
    "detached": torch.Tensor.detach,
    "numpy": torch.Tensor.numpy,
    "storage": torch.Tensor.untyped_storage,
    "dlpack": torch.utils.dlpack.to_dlpack,
    "memoryview": lambda x: memoryview(x.numpy()),
    "weakly": weakref.ref,
    "closure": lambda x: lambda: x,
    "generator": lambda x: (part for part in x),
    "autograd": lambda x: x * torch.ones(1, requires_grad=True),
    "parameter": lambda x: nn.Parameter(x, requires_grad=False),
    "shared": lambda x: [x.share_memory_()].clear(),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_in_any_way_is_left_alone(way, places):
    keeper, x = Keeps(WAYS[way]), image()
    net = nn.Sequential(layer(), keeper, layer())
    seen = []
    net[0].register_forward_hook(lambda module, args, y: seen.append(y.sum().item()))
    expected = apart(net, x)
    del places[:]
    y = net(x)
    assert places == [False, False]
    assert torch.equal(y, expected)
    keeper.kept = None
    gc.collect()
    keeper.keep = lambda x: None
    del places[:]
    assert torch.equal(net(x), expected)
    assert places == [False, True]


def test_hooks_of_any_module_see_what_they_should(places):
    inner = nn.Sequential(layer(), nn.ReLU(), layer())
    net, x = nn.Sequential(conv(8, 8), inner, layer()), image()
    with torch.no_grad():
        expected, seen, then = apart(net, x), [], []
        plain = [apart(net[0], x)]
        plain += [apart(inner, plain[0])]
        for module in (*net, *inner):
            module.register_forward_hook(lambda module, args, y: (seen.append((*args, y)), then.append(y.clone()))[0])
        assert torch.equal(net(x), expected)
        assert not any(places)
        for (given, y), copy in zip(seen, then, strict=True):
            assert torch.equal(y, copy)
            assert given is not y
        assert torch.equal(seen[-2][1], plain[1])


def test_a_hook_of_all_modules_sees_inputs_too(places):
    net, x, seen = nn.Sequential(layer(), layer()), image(), []
    hook = nn.modules.module.register_module_forward_hook(lambda module, args, y: seen.append(args[0] is y))
    try:
        net(x)
    finally:
        hook.remove()
    assert seen == [False] * 3
    assert places == [False, False]


class Reads(nn.Module):
    """Uses layers as code may: in turn by itself, by parts of the sequence, with what is between."""

    def __init__(self, way):
        super().__init__()
        self.body, self.way = nn.Sequential(layer(), layer(), layer()), way

    def forward(self, x):
        if self.way == "one by one":
            maps = [x]
            for part in self.body:
                maps.append(part(maps[-1]))
            return torch.cat(maps, 1)
        if self.way == "rebound":
            y = x
            for part in self.body:
                y = part(y)
            return torch.cat([x, y], 1)
        if self.way == "forward itself":
            y = self.body[0](x)
            return torch.cat([y, self.body[1].forward(y), self.body[2].forward(y)], 1)
        if self.way == "skip over a part":
            y = self.body[0](x)
            return torch.cat([y, self.body[1:](y)], 1)
        if self.way == "the sequence's forward, of what is held":
            maps = [self.body[0](x)]
            self.body[1:].forward(maps[0])
            return maps[0] + nn.Sequential.forward(self.body[1:], maps[0])
        if self.way == "the sequence's forward":
            y = self.body[0](x)
            return torch.cat([y, nn.Sequential.forward(self.body[1:], y)], 1)
        if self.way == "a temporary":
            return self.body(self.body(x) + 0) + x
        y = self.body(x)
        return y + self.body(y) + x


@pytest.mark.parametrize(
    "way",
    [
        "one by one",
        "rebound",
        "forward itself",
        "skip over a part",
        "the sequence's forward",
        "the sequence's forward, of what is held",
        "a temporary",
        "twice",
    ],
)
def test_code_that_reads_again_sees_no_change(way, places):
    net, x = Reads(way), image()
    before = x.clone()
    with torch.no_grad():
        expected = apart(net, x)
        del places[:]
        assert torch.equal(net(x), expected)
    assert torch.equal(x, before)
    assert any(places) == (way not in ("one by one", "rebound", "forward itself"))


@pytest.mark.parametrize(
    "give",
    [
        lambda x: x.clone(),
        lambda x: torch.from_numpy(x.permute(0, 2, 3, 1).numpy().copy()).permute(0, 3, 1, 2),
        nn.Identity(),
        lambda x: x.expand_as(x),
    ],
    ids=["temporary", "numpy", "identity", "expanded"],
)
def test_the_users_input_is_never_overwritten(give, places):
    net, x = nn.Sequential(nn.Identity(), nn.Dropout(), layer(), layer()).eval(), image()
    before = x.clone()
    with torch.inference_mode():
        net(give(x))
    assert torch.equal(x, before)
    assert places == [False, True]


class Source(nn.Module):
    """A module whose result lies in memory that somebody else reads."""

    def __init__(self, x):
        super().__init__()
        self.array = x.permute(0, 2, 3, 1).numpy().copy()

    def forward(self, x):
        return torch.from_numpy(self.array).permute(0, 3, 1, 2)


def test_memory_that_is_not_pytorchs_is_left_alone(places):
    source, x = Source(image()), image()
    before = source.array.copy()
    nn.Sequential(source, layer())(x)
    assert (source.array == before).all()
    assert places == [False]


def test_a_module_that_returns_a_state_of_its_own_keeps_it(places):
    state = layer()
    state.register_buffer("map", image())
    state.forward = lambda x: state.map
    before = state.map.clone()
    nn.Sequential(state, layer())(image())
    assert torch.equal(state.map, before)
    assert places == [False]


def test_while_a_debugger_looks_nothing_is_overwritten(places):
    net, x = nn.Sequential(layer(), layer()), image()
    sys.setprofile(lambda *args: None)
    try:
        y = net(x)
    finally:
        sys.setprofile(None)
    assert places == [False, False]
    assert torch.equal(net(x), y)
    assert places[2:] == [False, True]


IO = {"num_in_ch": 3, "num_out_ch": 3, "upscale": 2}
SWIN = {"img_size": 8, "window_size": 4, "depths": (2,), "embed_dim": 12, "num_heads": (2,), "mlp_ratio": 2}
NETWORKS = {
    "MSRResNet": ({"num_feat": 8, "num_block": 2, **IO}, False),
    "EDSR": ({"num_feat": 8, "num_block": 2, **IO}, False),
    "RCAN": ({"num_feat": 8, "num_group": 1, "num_block": 2, "squeeze_factor": 2, **IO}, True),
    "SwinIR": (
        {"in_chans": 3, "upscale": 2, "upsampler": "pixelshuffledirect", "resi_connection": "3conv", **SWIN},
        False,
    ),
}


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="BasicSR is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*meshgrid.*:UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_basicsr_give_the_same(name, places):
    importlib.import_module("lmb_quant.integrations.basicsr")  # first: it repairs BasicSR
    from basicsr.archs import build_network

    arguments, writes_over = NETWORKS[name]
    net = lmb.convert(lmb.binarize(build_network({"type": name, **arguments}), "lmb"))
    x = torch.rand(1, 3, 8, 8)
    before = x.clone()
    with torch.no_grad():
        expected = apart(net, x)
        del places[:]
        assert torch.equal(net(x), expected)
    assert torch.equal(x, before)
    assert any(places) == writes_over
