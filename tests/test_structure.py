# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/structure: the parts of networks written here, against expectations worked out by hand."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from helpers import assert_same_state, chain, conv, rules, state_of
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import lmb_quant as lmb
from lmb_quant import RecipeError
from lmb_quant.structure import find_structure


class Net(nn.Module):
    """Layers by keyword, and a forward given as a function of (self, x)."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = [run]  # in a list: not a method
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run[0](self, x)


def unet():
    def run(s, x):
        a = F.relu(s.enc1(x))
        b = F.relu(s.enc2(F.max_pool2d(a, 2)))
        c = F.relu(s.mid(F.max_pool2d(b, 2)))
        d = F.relu(s.dec2(torch.cat([F.interpolate(c, scale_factor=2), b], 1)))
        e = F.relu(s.dec1(torch.cat([F.interpolate(d, scale_factor=2), a], 1)))
        return s.out(e)

    return Net(
        run,
        dec2=conv(16, 8),  # registered before the encoder, on purpose
        dec1=conv(16, 8),
        enc1=conv(3, 8),
        enc2=conv(8, 8),
        mid=conv(8, 8),
        out=conv(8, 3),
    )


def densenet():
    def run(s, x):
        features = [s.head(x)]
        for layer in (s.d1, s.d2, s.d3):
            features.append(F.relu(layer(torch.cat(features, 1))))
        return s.tail(torch.cat(features, 1))

    return Net(run, head=conv(3, 4), d1=conv(4, 4), d2=conv(8, 4), d3=conv(12, 4), tail=conv(16, 3))


def rdn():
    """Residual dense: local fusion with its residual, global residual, sub-pixel tail."""

    def run(s, x):
        f = s.sfe1(x)
        y = s.sfe2(f)
        a = F.relu(s.c1(y))
        b = F.relu(s.c2(torch.cat([y, a], 1)))
        y = s.fuse(torch.cat([y, a, b], 1)) + y
        y = s.gff(y) + f
        return s.out(F.pixel_shuffle(s.up(y), 2))

    return Net(
        run, sfe1=conv(3, 4), sfe2=conv(4, 4), c1=conv(4, 4), c2=conv(8, 4), fuse=conv(12, 4, 1), gff=conv(4, 4),
        up=conv(4, 16), out=conv(4, 3),
    )  # fmt: skip


def espcn():
    return nn.Sequential(conv(1, 8, 5), nn.Tanh(), conv(8, 8), nn.Tanh(), conv(8, 4), nn.PixelShuffle(2))


def fsrcnn():
    return nn.Sequential(
        conv(3, 8, 5), nn.PReLU(), conv(8, 4, 1), nn.PReLU(), conv(4, 4), nn.PReLU(), conv(4, 8, 1), nn.PReLU(),
        nn.ConvTranspose2d(8, 3, 9, stride=2, padding=4, output_padding=1),
    )  # fmt: skip


def nearest():
    """Nearest-neighbour upscaling between convolutions, as in ESRGAN."""

    def run(s, x):
        f = s.first(x)
        f = f + s.body(f)
        f = F.leaky_relu(s.up1(F.interpolate(f, scale_factor=2, mode="nearest")), 0.2)
        f = F.leaky_relu(s.up2(F.interpolate(f, scale_factor=2, mode="nearest")), 0.2)
        return s.last(F.leaky_relu(s.hr(f), 0.2))

    return Net(run, first=conv(3, 4), body=conv(4, 4), up1=conv(4, 4), up2=conv(4, 4), hr=conv(4, 4), last=conv(4, 3))


def denoiser():
    """DnCNN: what the body finds is subtracted from the image."""
    return Net(lambda s, x: x - s.c(F.relu(s.b(F.relu(s.a(x))))), a=conv(3, 4), b=conv(4, 4), c=conv(4, 3))


def squeeze():
    """A residual block with channel attention."""

    def run(s, x):
        x = s.head(x)
        y = s.b(F.relu(s.a(x)))
        y = y * torch.sigmoid(s.se2(F.relu(s.se1(y.mean((2, 3), keepdim=True)))))
        return s.tail(x + y)

    return Net(run, head=conv(3, 4), a=conv(4, 4), b=conv(4, 4), se1=conv(4, 2, 1), se2=conv(2, 4, 1), tail=conv(4, 3))


def unfold():
    def run(s, x):
        x = s.b(F.relu(s.a(x)))
        return s.d(s.c(F.unfold(x, 3, padding=1).view(len(x), -1, *x.shape[2:])))

    return Net(run, a=conv(3, 4), b=conv(4, 4), c=conv(36, 4), d=conv(4, 3))


def unshuffled():
    """Real-ESRGAN x2: the image is unshuffled before the first convolution."""
    return Net(lambda s, x: s.c(s.b(s.a(F.pixel_unshuffle(x, 2)))), a=conv(12, 8), b=conv(8, 8), c=conv(8, 3))


def recursive():
    """One convolution run three times (DRCN)."""

    def run(s, x):
        x = s.head(x)
        for _ in range(3):
            x = F.relu(s.shared(x))
        return s.tail(x)

    return Net(run, head=conv(3, 4), shared=conv(4, 4), tail=conv(4, 3))


def in_place():
    def run(s, x):
        x = F.relu_(s.a(x))
        y = F.relu_(s.b(x))
        y = s.c(y)
        y += x
        return s.d(y).clamp_(0, 1)

    return Net(run, a=conv(3, 4), b=conv(4, 4), c=conv(4, 4), d=conv(4, 3))


class MeanShift(nn.Conv2d):
    """Official EDSR's and RCAN's: a frozen 1x1 convolution that moves the colours."""

    def __init__(self):
        super().__init__(3, 3, 1)
        self.requires_grad_(False)


def mean_shift():
    return nn.Sequential(MeanShift(), conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 3), MeanShift())


CASES = {
    "chain": (lambda: chain(3, 8, 8, 8, 3), {"first": "0", "last": "6"}),
    "one-conv": (lambda: chain(3, 3), {"first": "0", "last": "0"}),
    "u-net": (unet, {"first": "enc1", "last": "out", "upsample": "mid dec2"}),
    "densenet": (densenet, {"first": "head", "last": "tail"}),
    "rdn": (rdn, {"first": "sfe1", "last": "out", "upsample": "up", "bypassed": "fuse gff"}),
    "espcn": (espcn, {"first": "0", "last": "4", "upsample": "4"}),
    "nearest": (nearest, {"first": "first", "last": "last", "upsample": "up1", "bypassed": "body"}),
    "dncnn": (denoiser, {"first": "a", "last": "c", "bypassed": "c"}),
    "attention": (squeeze, {"first": "head", "last": "tail", "bypassed": "b se2"}),
    "unfold": (unfold, {"first": "a", "last": "d"}),
    "unshuffled": (unshuffled, {"first": "a", "last": "c"}),
    "recursive": (recursive, {"first": "head", "last": "tail"}),
    "in-place": (in_place, {"first": "a", "last": "d", "bypassed": "c"}),
    "mean-shift": (mean_shift, {"first": "1", "last": "5"}),
}


@pytest.mark.parametrize(("make", "parts"), CASES.values(), ids=CASES)
def test_parts(make, parts):
    found = find_structure(make())
    assert found.found
    assert {part: " ".join(sorted(getattr(found, part))) for part in ("first", "last", "upsample", "bypassed")} == {
        "first": "", "last": "", "upsample": "", "bypassed": "",
        **{part: " ".join(sorted(names.split())) for part, names in parts.items()},
    }  # fmt: skip


def test_fsrcnn_has_its_first_convolution_and_no_upsampling_one():
    found = find_structure(fsrcnn())
    assert found.first == {"0"}
    assert "4" not in found.last
    assert not found.upsample


@pytest.mark.parametrize(
    "activation",
    [
        pytest.param(
            lambda: torch.jit.script(nn.Sequential(nn.ReLU())),
            id="scripted",
            marks=pytest.mark.filterwarnings("ignore"),
        ),
        pytest.param(
            lambda: torch.jit.trace(nn.ReLU(), torch.ones(1, 4, 2, 2)),
            id="traced",
            marks=pytest.mark.filterwarnings("ignore"),
        ),
        pytest.param(lambda: Net(lambda s, x: torch.from_numpy(np.maximum(x.numpy(), 0))), id="numpy"),
    ],
)
def test_convolutions_behind_an_unrecorded_operation_are_not_first(activation):
    act = activation()
    found = find_structure(nn.Sequential(conv(3, 4), act, conv(4, 4), act, conv(4, 3)))
    assert found.first == {"0"}
    assert "4" in found.last


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def test_custom_functions_are_followed():
    net = Net(lambda s, x: s.c(Doubled.apply(s.b(Doubled.apply(s.a(x))))), a=conv(3, 4), b=conv(4, 4), c=conv(4, 3))
    assert (find_structure(net).first, find_structure(net).last) == ({"a"}, {"c"})


def test_keyword_calls_are_followed():
    net = Net(lambda s, x: s.c(input=s.b(input=s.a(input=x))), a=conv(3, 4), b=conv(4, 4), c=conv(4, 3))
    found = find_structure(net)
    assert (found.found, found.first, found.last) == (True, {"a"}, {"c"})


@pytest.mark.parametrize(
    "wrap",
    [lambda y: (y, None), lambda y: {"sr": y, "extra": [1, "text"]}, lambda y: [[y]]],
    ids=["tuple", "dict", "list"],
)
def test_results_in_containers(wrap):
    net = Net(lambda s, x: wrap(s.b(s.a(x))), a=conv(3, 4), b=conv(4, 3))
    assert find_structure(net).last == {"b"}


@dataclasses.dataclass
class Result:
    image: torch.Tensor


def test_a_result_that_cannot_be_read_falls_back_by_name():
    net = Net(lambda s, x: Result(s.b(s.a(x))), a=conv(3, 4), b=conv(4, 3))
    found = find_structure(net)
    assert not found.found
    assert found.last == {"b"}
    assert "Result" in found.how


def test_convolutions_that_do_not_run_are_idle():
    net = Net(lambda s, x: s.b(s.a(x)), a=conv(3, 4), never=conv(4, 4), b=conv(4, 3))
    assert find_structure(net).idle == {"never"}


def test_registration_order_does_not_matter():
    net = Net(lambda s, x: s.tail(s.body(s.head(x))), tail=conv(8, 3), body=conv(8, 8), head=conv(3, 8))
    found = find_structure(net)
    assert (found.found, found.first, found.last) == (True, {"head"}, {"tail"})


@pytest.mark.parametrize("size", [(1, 5, 3, 64, 64), (1, 3, 64)], ids=["video", "3d"])
def test_input_size_is_used(size):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 4), conv(4, 3)

        def forward(self, x):
            assert x.shape == size
            return self.b(self.a(x.reshape(-1, 3, 8, 8) if x.ndim == 5 else x[..., None]))

    found = find_structure(Odd(), size)
    assert (found.found, found.first, found.last) == (True, {"a"}, {"b"})


def test_input_size_that_fails_is_an_error():
    with pytest.raises(
        RecipeError, match=r"input_size: the model does not run on an input of size \(1, 7, 8, 8\): RuntimeError"
    ):
        find_structure(chain(3, 4, 3), (1, 7, 8, 8))


def test_networks_that_never_run_fall_back_to_registration_order():
    net = Net(lambda s, x: x["lq"], a=conv(3, 4), b=conv(4, 4), c=conv(4, 3))
    found = find_structure(net)
    assert (found.found, found.first, found.last) == (False, {"a"}, {"c"})
    assert "by registration order, since a trial run failed (" in found.how
    assert "input_size=... may help" in found.how


def test_no_convolution():
    assert find_structure(nn.Linear(2, 2)).how == "no convolution"


class Restless(nn.Module):
    """Changes what it can reach while it runs."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = conv(3, 4), nn.BatchNorm2d(4), conv(4, 3)
        self.register_buffer("runs", torch.zeros(()))
        self.calls = []

    def forward(self, x):
        self.runs += 1
        self.calls.append(torch.rand(3) + np.random.rand() + random.random())
        return self.b(F.dropout(self.norm(self.a(x)), 0.5, True))


@pytest.mark.parametrize("training", [True, False])
def test_trial_run_leaves_everything_as_it_was(training):
    net, seen = Restless().train(training), []
    handle = net.a.register_forward_hook(lambda *_: seen.append(1))
    before = state_of(net)
    rng = torch.get_rng_state(), np.random.get_state()[1].copy(), np.random.get_state()[2], random.getstate()
    modes = [module.training for module in net.modules()]
    assert find_structure(net).found
    assert_same_state(net, before)
    assert torch.equal(torch.get_rng_state(), rng[0])
    assert np.array_equal(np.random.get_state()[1], rng[1])
    assert np.random.get_state()[2] == rng[2]
    assert random.getstate() == rng[3]
    assert [module.training for module in net.modules()] == modes
    assert net.calls == []
    assert seen == []
    assert handle.id in net.a._forward_hooks
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.is_grad_enabled()


def test_train_that_returns_nothing():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)

    found = find_structure(Frozen(conv(3, 4), conv(4, 3)))
    assert (found.found, found.first, found.last) == (True, {"0"}, {"1"})


def test_models_without_data_and_in_half(dtype):
    assert find_structure(chain(3, 4, 4, 3).to(dtype)).last == {"4"}
    assert find_structure(chain(3, 4, 4, 3).to("meta")).last == {"4"}


def test_tokens_read_off_the_layer():
    found = find_structure(chain(3, 4, 3))
    assert found.has("@pointwise", "x", conv(2, 2, 1))
    assert not found.has("@pointwise", "x", nn.Conv2d(2, 2, (1, 3)))
    assert found.has("@grouped", "x", conv(4, 4, groups=2))
    assert found.has("@strided", "x", nn.Conv2d(2, 2, 3, stride=(1, 2)))
    assert not found.has("@strided", "x", conv(2, 2))


class Reparameterised(nn.Module):
    """As SPAN's blocks: in eval mode the branches of the training are folded into one convolution, at each run."""

    def __init__(self, write):
        super().__init__()
        self.branch, self.folded, self.write = conv(8, 8), conv(8, 8), write

    def forward(self, x):
        if self.training:
            return self.branch(x)
        self.write(self.folded, self.branch.weight)
        return self.folded(x)


def by_data(layer, weight):
    layer.weight.data = weight.data.clone()


def by_copy(layer, weight):
    layer.weight.data.copy_(weight.data)


def by_parameter(layer, weight):
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)


def without_gradient(layer, weight):
    with torch.no_grad():
        layer.weight.copy_(weight)


@pytest.mark.parametrize("write", [by_data, by_copy, by_parameter, without_gradient])
def test_weights_that_the_network_itself_writes(write):
    net = nn.Sequential(conv(3, 8), Reparameterised(write), conv(8, 8), conv(8, 3)).eval()
    net(torch.rand(1, 3, 8, 8))  # so that writing again changes nothing
    before = state_of(net)
    found = find_structure(net)
    assert (found.written, found.idle) == ({"1.folded"}, {"1.branch"})
    assert_same_state(net, before)
    planned = lmb.plan(net, "lmb")
    assert "the network's own forward writes its weight" in rules(planned)["1.folded"]
    assert [layer.name for layer in planned.binary] == ["2"]
    lmb.convert(lmb.binarize(net, "lmb"))(torch.rand(1, 3, 8, 8))


def test_nothing_is_written_by_common_networks():
    tied = nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 8), weight_norm(conv(8, 8)), nn.BatchNorm2d(8), conv(8, 3))
    tied[2].weight = tied[1].weight
    assert not find_structure(tied).written
    assert not find_structure(lmb.binarize(tied, "lmb")).written
