# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/modules/packed.py: the packed form equals the training form in eval mode, and behaves as a module."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import skimage.data
import torch
from helpers import config, conv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from lmb_quant import LMBError
from lmb_quant.binarizers import activation_binarizers, make_activation
from lmb_quant.modules import ACTIVATIONS, BinaryConv2d, PackedBinaryConv2d, PackedConfig
from lmb_quant.ops._library import find
from lmb_quant.ops.binary_conv2d.direct import DirectLayer
from lmb_quant.ops.binary_conv2d.reference import input_bits, unpack_bits

PACKABLE = [n for n in sorted(activation_binarizers()) if make_activation(conv(2, 2), n, {}).packed_threshold()]
PACKABLE_ACTS = [name for name in ACTIVATIONS if name != "maxout"]
KINDS = ("noise", "flat", "sparse", "ramp", "photo")


def image(kind, shape):
    x = torch.randn(shape)
    if kind == "flat":
        return torch.full(shape, 0.3)
    if kind == "sparse":
        return x.relu()
    if kind == "ramp":
        return torch.linspace(-1, 1, x.numel()).view(shape)
    if kind == "photo":  # its colours and their differences between neighbours, as a first layer might give
        photo = (
            torch.from_numpy(skimage.data.chelsea()[100 : 100 + shape[2], 150 : 150 + shape[3]]).movedim(-1, 0) / 255
        )
        maps = torch.cat([photo, photo.diff(dim=1, append=photo[:, -1:]), photo.diff(dim=2, append=photo[..., -1:])])
        return torch.stack([maps[torch.arange(shape[1]) % len(maps)]] * shape[0])
    return x


def layer(inputs=8, outputs=8, kernel=3, *, options=None, **changes):
    """A training form in eval mode, in plain PyTorch, with every parameter and statistic random."""
    names = {"activation", "activation_options", "alpha", "norm", "act", "act_on", "skip", "rescale"}
    words = {key: changes.pop(key) for key in list(changes) if key in names}
    net = BinaryConv2d.from_float(conv(inputs, outputs, kernel, **changes), config(**words))
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.3)
        for name, b in net.named_buffers():
            if name.endswith("running_var"):
                b.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                b.normal_()
    net.engine = False
    return net.eval()


def assert_equal_forms(net, x):
    packed = PackedBinaryConv2d.from_binary(net)
    c = packed.config
    bits = input_bits(x, c.threshold, c.window, packed.threshold_shift, packed.threshold_gain)
    assert torch.equal(bits, net.binarize_input(x) > 0)
    signs = unpack_bits(packed.weight_packed, c.in_channels // c.groups, c.kernel_size)
    assert torch.equal(signs, net.binarize_weight(net.weight) > 0)
    with torch.no_grad():
        expected, y = net(x), packed(x)
    scale = float((packed.weight_scale.abs().max() * signs[0].numel()).clamp(min=1)) + float(expected.abs().max())
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6 * scale)
    return packed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 3, 5, 7, 9, 11, 13, 15, "global"])
@pytest.mark.parametrize("learned", ["none", "channel"])
def test_windows_and_contents(window, kind, learned):
    net = layer(activation_options={"window": window, "shift": learned, "gain": learned}, act="rprelu", skip=True)
    assert_equal_forms(net, image(kind, (2, 8, 17, 13)))


@pytest.mark.parametrize("channels", [1, 3, 31, 48, 60, 63, 64, 65, 180, 256])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_channels_and_kernels(channels, kernel):
    net = layer(channels, channels, kernel, act="rprelu", skip=True)
    assert_equal_forms(net, torch.randn(1, channels, 7, 9))
    assert_equal_forms(net, torch.randn(1, channels, 1, 1))


def test_what_packs():
    assert {"local_mean", "rsign", "sign"} <= set(PACKABLE)
    for name in set(activation_binarizers()) - set(PACKABLE):
        with pytest.raises(LMBError, match=f"activation binarizer '{name}' has no packed form"):
            PackedBinaryConv2d.from_binary(layer(activation=name))


@pytest.mark.parametrize("name", PACKABLE)
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("act", PACKABLE_ACTS)
@pytest.mark.parametrize("skip", [False, True])
def test_every_unit_of_every_binarizer_that_packs(name, norm, act, skip):
    net = layer(activation=name, norm=norm, act=act, skip=skip)
    packed = assert_equal_forms(net, torch.randn(2, 8, 9, 7))
    if name != "local_mean" or norm == "none":  # these take what the plan said they would
        assert packed.packed_bytes == net.packed_bytes


@pytest.mark.parametrize("act_on", ["branch", "sum"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (5, 12), (64, 64), (33, 20)])
def test_a_factor_of_each_pixel(inputs, outputs, kind, act_on):
    learned = {"shift": "channel", "gain": "channel"}
    net = layer(
        inputs, outputs, rescale="spatial", activation_options=learned, norm="batch", act="rprelu", act_on=act_on,
        skip=inputs == outputs,
    )  # fmt: skip
    packed = assert_equal_forms(net, image(kind, (2, inputs, 9, 13)))
    assert packed.config.pixel_factor
    before, after = (2, inputs, 9, 13), (2, outputs, 9, 13)
    one_map = 2 * inputs * 9 * 13  # of the convolution inside, which BinaryConv2d does not count as its own
    assert packed.config.unit_macs(before, after) == net.unit_macs(before, after) + one_map


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.1), nn.PReLU()], ids=lambda act: type(act).__name__)
def test_other_acts(act):
    net = layer()
    net.act = act
    assert_equal_forms(net, torch.randn(1, 8, 6, 7))


@pytest.mark.parametrize("act", [nn.ReLU6(), nn.Hardtanh(-2, 2)], ids=str)
def test_other_limits_do_not_pack(act):
    net = layer()
    net.act = act
    with pytest.raises(LMBError, match=r"act: .* has no packed form\. Allowed: .* Hardtanh of -1 to 1"):
        PackedBinaryConv2d.from_binary(net)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_drawn_combinations(data):
    def draw(*values):
        return data.draw(st.sampled_from(values))

    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    groups, kernel, stride, dilation = draw(1, 1, 2, 3), draw(1, 2, 3, 5), draw(1, 1, 2, 3), draw(1, 1, 2)
    inputs, outputs = (groups * data.draw(st.integers(1, 24)) for _ in range(2))
    padding = draw(0, 1, 3, "same") if stride == 1 else draw(0, 1, 3)
    name = draw(*PACKABLE)
    options = {}
    if name == "local_mean":
        learned = draw("none", "channel")
        options = {"window": draw(1, 3, 5, 9, 15, "global"), "shift": draw("none", "channel"), "gain": learned}
    net = layer(
        inputs, outputs, kernel, groups=groups, stride=stride, dilation=dilation, padding=padding,
        bias=draw(True, False), activation=name, activation_options=options, norm=draw("none", "batch"),
        act=draw(*PACKABLE_ACTS), act_on=draw("branch", "sum"),
        alpha=draw("channel_mean", "layer_mean", "one"),
    )  # fmt: skip
    smallest = max(1, dilation * (kernel - 1) + 1 - 2 * (0 if padding == "same" else padding))
    height, width = (data.draw(st.integers(smallest, smallest + 12)) for _ in range(2))
    assert_equal_forms(net, image(draw(*KINDS), (draw(1, 2), inputs, height, width)))


def test_ties_of_weights_and_nan_are_those_of_the_training_form():
    net = layer(act="none")
    with torch.no_grad():
        net.weight[0, 0] = 0
        net.weight[1, 0, 0, 0] = -0.0
    x = torch.randn(1, 8, 6, 7)
    x[0, 0, 2, 2], x[0, 1, 3, 3] = float("nan"), float("inf")
    assert_equal_forms(net, x)


def test_state_dict_deepcopy_pickle_and_moves():
    net = layer(8, 8, act="rprelu", activation="rsign", skip=True)
    packed, x = PackedBinaryConv2d.from_binary(net), torch.randn(1, 8, 6, 7)
    y = packed(x)
    fresh = PackedBinaryConv2d(packed.config)
    fresh(x)  # has a layer of the engine made from zeros
    fresh.load_state_dict(packed.state_dict())
    others = [fresh, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed).half().double()]
    others += [copy.deepcopy(packed).to(memory_format=torch.channels_last), copy.deepcopy(packed).to("cpu")]
    for other in others:
        assert torch.equal(other(x), y)
        assert {str(t.dtype) for t in other.buffers()} == {"torch.uint8", "torch.float32"}
        assert list(other.state_dict()) == list(packed.state_dict())
    assert packed.weight_packed.ndim == 2
    assert torch.equal(packed(x[0]), y[0])


def test_gradients_and_inputs_that_do_not_fit_are_refused():
    packed = PackedBinaryConv2d.from_binary(layer())
    with pytest.raises(LMBError, match="inference only"):
        packed(torch.randn(1, 8, 4, 4, requires_grad=True))
    for x in (torch.randn(1, 7, 4, 4), torch.randn(4, 4), torch.ones(1, 8, 4, 4, dtype=torch.int32)):
        with pytest.raises(LMBError, match="input"):
            packed(x)
    with torch.no_grad():
        packed(torch.randn(1, 8, 4, 4, requires_grad=True))


def test_what_has_no_packed_form_is_refused():
    net = layer()
    net.norm = nn.InstanceNorm2d(8)
    with pytest.raises(LMBError, match="InstanceNorm2d"):
        PackedBinaryConv2d.from_binary(net)
    net = layer()
    net.act = nn.GELU()
    with pytest.raises(LMBError, match="GELU"):
        PackedBinaryConv2d.from_binary(net)
    net = layer()
    net.register_forward_hook(lambda *args: None)
    with pytest.raises(LMBError, match="forward_hooks"):
        PackedBinaryConv2d.from_binary(net)
    with pytest.raises(LMBError, match="window: 257"):
        PackedBinaryConv2d.from_binary(layer(activation_options={"window": 257}))
    with pytest.raises(LMBError, match=r"rescaler 'input_mean' has no packed form"):
        PackedBinaryConv2d.from_binary(layer(rescale="input_mean"))
    net = layer()
    net.binarize_input.packed_threshold = lambda: None
    with pytest.raises(LMBError, match="no packed form"):
        PackedBinaryConv2d.from_binary(net)


@pytest.mark.parametrize(
    "bad",
    [
        {"in_channels": 0}, {"out_channels": 1 << 20}, {"kernel_size": (3,)}, {"stride": (0, 1)}, {"padding": (1, 1)},
        {"groups": 3}, {"bias": 1}, {"threshold": "loc"}, {"window": 3}, {"shift": True}, {"gain": True},
        {"act": "gelu"}, {"act_on": "inner_sum"}, {"slopes": 4}, {"act": "rprelu"}, {"dilation": (True, 1)},
        {"padding": [0, 0, 0, 0]}, {"pixel_factor": True}, {"pixel_factor": 1},
    ],
    ids=str,
)  # fmt: skip
def test_configurations_that_are_refused(bad):
    plain = {"in_channels": 8, "out_channels": 8, "kernel_size": (3, 3)}
    with pytest.raises(LMBError, match=next(iter(bad)) if bad != {"act": "rprelu"} else "slopes"):
        PackedConfig(**(plain | bad))


def test_print_shows_the_kernel():
    packed = PackedBinaryConv2d.from_binary(layer())
    assert f"kernel={packed.kernel}" in repr(packed)
    assert "none (meta)" in repr(PackedBinaryConv2d(packed.config, device="meta"))


def test_a_layer_on_another_device_than_its_input_is_an_error():
    layer = PackedBinaryConv2d.from_binary(BinaryConv2d.from_float(conv(4, 4), config()))
    x, empty = torch.rand(1, 4, 6, 6), copy.deepcopy(layer).to("meta")
    with pytest.raises(LMBError, match=r"input: it is on cpu, the packed layer on meta.*load_state_dict"):
        empty(x)
    with pytest.raises(LMBError, match=r"input: it is on meta, the packed layer on cpu. Allowed: both on one device.$"):
        layer(x.to("meta"))
    assert empty(x.to("meta")).shape == x.shape
    empty.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(empty(x), layer(x))


def packed_layer(channels=8, **words):
    return PackedBinaryConv2d.from_binary(layer(channels, channels, **({"act": "rprelu", "skip": True} | words)))


class Operators(TorchDispatchMode):
    """Which operators of ours run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "lmb_quant":
            self.seen.append(func._opname)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def direct_runs(monkeypatch):
    """The calls that went past the dispatcher."""
    runs, run = [], DirectLayer.run
    monkeypatch.setattr(DirectLayer, "run", lambda self, x, overwrite: runs.append(x) or run(self, x, overwrite))
    return runs


needs_engine = pytest.mark.skipif(find()[0] is None, reason="no engine")


@needs_engine
@pytest.mark.parametrize("size", [(2, 8, 6, 7), (1, 8, 1, 1), (0, 8, 4, 4), (1, 8, 5, 1)], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_a_plain_call_goes_past_the_dispatcher_and_gives_what_the_operator_gives(size, last, direct_runs):
    packed, x = packed_layer(), torch.randn(size)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    y, expected = packed(x), torch.ops.lmb_quant.binary_conv2d(x, *packed.arguments())
    assert len(direct_runs) == 1
    assert torch.equal(y, expected)
    assert (y.stride(), y.dtype, y.requires_grad) == (expected.stride(), torch.float32, False)
    before, version = x.clone(), x._version
    place = packed(x, overwrite=True)
    assert torch.equal(place, y)
    assert (place is x) == x.is_contiguous(memory_format=torch.channels_last)
    assert x._version == version + (place is x)
    assert place is x or torch.equal(x, before)


class Marked(torch.Tensor):
    pass


def zeros(x):
    return torch._efficientzerotensor(x.shape)


def tangent(x):
    """A view whose values are negated only when they are read."""
    return torch.complex(torch.zeros_like(x), -x).conj().imag


OTHERS = {
    "double": torch.Tensor.double,
    "bfloat16": torch.Tensor.bfloat16,
    "zeros": zeros,
    "negative": tangent,
    "subclass": lambda x: x.as_subclass(Marked),
}


@needs_engine
@pytest.mark.parametrize("name", OTHERS)
def test_other_tensors_take_the_operator(name, direct_runs):
    packed, x = packed_layer(), OTHERS[name](torch.randn(1, 8, 6, 7))
    with Operators() as operators:
        expected = torch.ops.lmb_quant.binary_conv2d(x, *packed.arguments())
    y = packed(x)
    assert not direct_runs
    assert operators.seen
    assert torch.equal(y, expected)
    assert y.dtype == x.dtype
    plain = packed((x.float() + torch.zeros(1)).as_subclass(torch.Tensor))
    torch.testing.assert_close(y.float().as_subclass(torch.Tensor), plain, rtol=0.01, atol=0.01)
    assert len(direct_runs) == 1


@needs_engine
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_who_watches_operators_sees_them(direct_runs):
    packed, x = packed_layer(), torch.randn(1, 8, 6, 7)
    expected = packed(x)
    del direct_runs[:]
    with Operators() as operators:
        assert torch.equal(packed(x), expected)
    assert operators.seen == ["binary_conv2d"]
    with torch.profiler.profile() as profile:
        assert torch.equal(packed(x), expected)
    assert "lmb_quant::binary_conv2d" in {event.key for event in profile.key_averages()}
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert type(packed(x)) is not torch.Tensor
    assert "binary_conv2d" in str(make_fx(packed)(x).graph)
    traced = torch.jit.trace(packed, x, check_trace=False)
    assert "lmb_quant::binary_conv2d" in str(traced.graph)
    assert torch.equal(torch.compile(packed, backend="aot_eager", fullgraph=True)(x), expected)
    assert torch.equal(torch.export.export(packed, (x,)).module()(x), expected)
    assert not direct_runs


@needs_engine
def test_changes_of_a_layer_are_noticed_past_the_dispatcher(direct_runs):
    packed, x = packed_layer(activation="rsign"), torch.randn(1, 8, 6, 7)
    packed(x)

    def check():
        y = packed(x)
        assert torch.equal(y, torch.ops.lmb_quant.binary_conv2d(x, *packed.arguments()))
        return y

    known = [check()]
    changes = (
        lambda: packed.bias.add_(1),
        lambda: packed.weight_packed.bitwise_not_(),
        lambda: setattr(packed, "weight_scale", packed.weight_scale * 2),
        lambda: packed._buffers.update(bias=packed.bias - 3),
        lambda: setattr(packed, "threshold_gain", torch.ones(8) * 0.3),  # a plain attribute: there was none
        lambda: setattr(packed, "config", dataclasses.replace(packed.config, skip=False)),
        lambda: packed.load_state_dict({name: t * 3 for name, t in packed.state_dict().items()}),
        lambda: packed.load_state_dict({name: t * 2 for name, t in packed.state_dict().items()}, assign=True),
    )
    for i, change in enumerate(changes):
        if i == 5:
            packed.threshold_gain = None
        change()
        if i == 4:
            with pytest.raises(LMBError, match="gain"):  # as from the operator: this threshold has none
                packed(x)
            continue
        known.append(check())
        assert not torch.equal(known[-1], known[-2])
    swapped = {"bias": packed.bias + 5}
    assert not torch.equal(torch.func.functional_call(packed, swapped, (x,)), known[-1])
    assert torch.equal(check(), known[-1])


@needs_engine
def test_a_layer_loaded_in_inference_mode_is_not_the_one_before(direct_runs):
    with torch.inference_mode():
        packed, x = packed_layer(), torch.randn(1, 8, 6, 7)
        before = packed(x)
        packed.load_state_dict({name: t * 2 for name, t in packed.state_dict().items()})
        assert not torch.equal(packed(x), before)
        assert torch.equal(packed(x), torch.ops.lmb_quant.binary_conv2d(x, *packed.arguments()))
    assert len(direct_runs) == 3


@needs_engine
def test_gradients_of_a_buffer_are_the_operators_business(direct_runs):
    packed, x = packed_layer(), torch.randn(1, 8, 6, 7)
    packed.weight_scale.requires_grad_()
    assert packed(x).requires_grad
    assert not direct_runs
    with torch.no_grad():
        assert not packed(x).requires_grad
    assert len(direct_runs) == 1


@needs_engine
def test_errors_past_the_dispatcher_are_the_operators(direct_runs):
    packed = PackedBinaryConv2d.from_binary(layer(padding=0))
    packed(torch.randn(1, 8, 6, 7))
    with pytest.raises(LMBError, match="output: shape"):
        packed(torch.randn(1, 8, 2, 2))
    assert packed(torch.randn(1, 8, 6, 7)).shape == (1, 8, 4, 5)


def test_threads_share_a_layer():
    packed = packed_layer()
    inputs = [torch.randn(1, 8, side, 9) for side in (5, 6, 7, 8)]
    expected = [packed(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert all(map(torch.equal, pool.map(packed, inputs), expected))
