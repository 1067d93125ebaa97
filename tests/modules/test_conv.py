# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/modules/conv: BinaryConv2d against NumPy loops, and as a good citizen of torch.nn."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from helpers import assert_close, config, conv, state_of
from torch import nn

from lmb_quant import LMBError
from lmb_quant.modules import BinaryConv2d, binary_convs


def np_sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def np_conv(x, weight, bias, stride, padding, dilation, groups):
    """A convolution by loops; what lies outside the image adds 0."""
    n, _, height, width = x.shape
    outputs, inputs, kh, kw = weight.shape
    (sy, sx), (py, px), (dy, dx) = stride, padding, dilation
    out_h = (height + 2 * py - dy * (kh - 1) - 1) // sy + 1
    out_w = (width + 2 * px - dx * (kw - 1) - 1) // sx + 1
    y = np.zeros((n, outputs, out_h, out_w))
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for i in range(out_h):
            for j in range(out_w):
                for a in range(kh):
                    for b in range(kw):
                        row, column = i * sy - py + a * dy, j * sx - px + b * dx
                        if 0 <= row < height and 0 <= column < width:
                            y[:, o, i, j] += x[:, first : first + inputs, row, column] @ weight[o, :, a, b]
    return y + (0 if bias is None else bias[:, None, None])


CONVOLUTIONS = {
    "3x3": (4, 6, 3, {}),
    "no-bias": (4, 6, 3, {"bias": False}),
    "no-padding": (4, 6, 3, {"padding": 0}),
    "wide-padding": (3, 2, 3, {"padding": 3}),
    "strided": (4, 5, 3, {"stride": 2}),
    "dilated": (4, 4, 3, {"dilation": 2, "padding": 2}),
    "grouped": (6, 9, 3, {"groups": 3}),
    "depthwise": (5, 5, 3, {"groups": 5}),
    "1x1": (5, 3, 1, {}),
    "even-kernel": (2, 2, 4, {"padding": 1}),
    "rectangular": (3, 4, (1, 5), {"padding": (0, 2), "stride": (2, 1)}),
    "odd-channels": (1, 1, 3, {}),
    "65-channels": (65, 3, 3, {}),
    "7x7": (3, 2, 7, {}),
}
convolutions = pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "options"), CONVOLUTIONS.values(), ids=CONVOLUTIONS
)


def make(inputs, outputs, kernel, options, **changes):
    padding = {} if "padding" in options else {"padding": kernel // 2}
    float_conv = nn.Conv2d(inputs, outputs, kernel, **padding, **options)
    return float_conv, BinaryConv2d.from_float(float_conv, config(**changes))


@convolutions
@pytest.mark.parametrize("activation", ["sign", "rsign"])
@pytest.mark.parametrize("alpha", ["channel_mean", "one"])
def test_forward_against_loops(inputs, outputs, kernel, options, activation, alpha):
    float_conv, net = make(inputs, outputs, kernel, options, activation=activation, alpha=alpha)
    x = torch.randn(2, inputs, 7, 6)
    threshold = np.zeros(inputs)
    if activation == "rsign":
        nn.init.normal_(net.binarize_input.threshold)
        threshold = net.binarize_input.threshold.detach().double().numpy()
    weight = net.weight.detach().double().numpy()
    scale = np.abs(weight).mean(axis=(1, 2, 3), keepdims=True) if alpha == "channel_mean" else 1.0
    bias = None if net.bias is None else net.bias.detach().double().numpy()
    bits = np_sign(x.double().numpy() - threshold[:, None, None])
    geometry = (float_conv.stride, float_conv.padding, float_conv.dilation, float_conv.groups)
    assert_close(net(x), np_conv(bits, scale * np_sign(weight), bias, *geometry))


def test_local_mean_and_unit_against_numpy():
    float_conv = conv(4, 4)
    net = BinaryConv2d.from_float(float_conv, config(norm="batch", act="rprelu", skip=True))
    for parameter in (*net.act.parameters(), *net.norm.parameters()):
        nn.init.normal_(parameter)
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2)
    net.eval()
    x = torch.randn(2, 4, 6, 5)
    a, w = x.double().numpy(), float_conv.weight.detach().double().numpy()
    bits = np.empty_like(a)
    for i in range(6):
        for j in range(5):
            window = a[:, :, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            bits[:, :, i, j] = np_sign(a[:, :, i, j] - window.mean(axis=(2, 3)))
    alpha = np.abs(w).mean(axis=(1, 2, 3), keepdims=True)
    y = np_conv(bits, alpha * np_sign(w), float_conv.bias.detach().double().numpy(), (1, 1), (1, 1), (1, 1), 1)
    values = {k: v.double().numpy()[:, None, None] for k, v in net.state_dict().items() if v.ndim == 1 and k != "bias"}
    y = (y - values["norm.running_mean"]) / np.sqrt(values["norm.running_var"] + net.norm.eps)
    y = y * values["norm.weight"] + values["norm.bias"]
    u = y - values["act.gamma"]
    y = np.where(u > 0, u, values["act.beta"] * u) + values["act.zeta"]
    assert_close(net(x), y + a)


def test_padding_adds_zero_to_the_sum():
    float_conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(float_conv.weight)
    y = BinaryConv2d.from_float(float_conv, config(activation="sign"))(torch.ones(1, 1, 4, 5))
    assert y[0, 0, 0, 0] == 4
    assert y[0, 0, 0, 2] == 6
    assert y[0, 0, 2, 2] == 9


def test_padding_same_as_a_word():
    float_conv = nn.Conv2d(3, 3, 3, padding="same")
    number = copy.deepcopy(float_conv)
    number.padding = (1, 1)
    number._reversed_padding_repeated_twice = [1, 1, 1, 1]
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(*(BinaryConv2d.from_float(c, config())(x) for c in (float_conv, number)))


@convolutions
def test_weight_gradient_against_autograd_of_the_formula(inputs, outputs, kernel, options):
    float_conv, net = make(inputs, outputs, kernel, options, weight_options={"surrogate": "approx_sign"})
    x = torch.randn(2, inputs, 7, 6)
    grad = torch.randn_like(net(x))
    net(x).backward(grad)
    weight = float_conv.weight.detach()
    binary = (weight.abs().mean(dim=(1, 2, 3), keepdim=True) * torch.where(weight >= 0, 1.0, -1.0)).requires_grad_()
    bits = net.binarize_input(x)
    plain = nn.functional.conv2d(
        bits, binary, None, float_conv.stride, float_conv.padding, float_conv.dilation, float_conv.groups
    )
    plain.backward(grad)
    alpha = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
    expected = binary.grad * alpha * (2 - 2 * weight.abs()).clamp(min=0)
    torch.testing.assert_close(net.weight.grad, expected, rtol=1e-4, atol=1e-5)


def test_unbatched_input_as_nn_conv2d():
    for act in ("none", "prelu", "rprelu"):
        net = BinaryConv2d.from_float(conv(3, 3), config(act=act, skip=True))
        x = torch.randn(3, 6, 5)
        assert torch.equal(net(x), net(x[None])[0])


# ---- parameters and state


def test_parameters_keep_identity_and_names():
    float_conv = conv(3, 5)
    net = BinaryConv2d.from_float(float_conv, config(activation="rsign", act="rprelu"))
    assert net.weight is float_conv.weight
    assert net.bias is float_conv.bias
    names = [name for name, _ in net.named_parameters()]
    assert names[:2] == ["weight", "bias"]
    assert set(names[2:]) == {"binarize_input.threshold", "act.gamma", "act.beta", "act.zeta"}


def test_an_optimizer_made_before_trains_the_binary_form():
    float_conv = conv(3, 5)
    optimizer = torch.optim.SGD(float_conv.parameters(), lr=0.1)
    net, before = BinaryConv2d.from_float(float_conv, config()), float_conv.weight.detach().clone()
    net(torch.randn(1, 3, 6, 6)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(net.weight, before)


UNITS = {
    "plain": {},
    "unit": {"norm": "batch", "act": "rprelu", "skip": True, "activation": "rsign"},
    "prelu": {"act": "prelu"},
}
units = pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)


@units
def test_float_checkpoint_loads_strictly_and_keeps_the_rest(unit):
    donor, net = conv(4, 4), nn.Sequential(BinaryConv2d.from_float(conv(4, 4), config(**unit)))
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    before = state_of(net)
    checkpoint = {f"0.{key}": value for key, value in donor.state_dict().items()}
    given = dict(checkpoint)
    net.load_state_dict(checkpoint, strict=True)
    assert checkpoint == given, "the caller's dict was changed"
    assert torch.equal(net[0].weight, donor.weight)
    assert torch.equal(net[0].bias, donor.bias)
    for key in set(before) - set(checkpoint):
        assert torch.equal(net.state_dict()[key], before[key])


@units
def test_keys_are_a_superset_of_the_float_ones(unit):
    float_conv = conv(4, 4)
    net = BinaryConv2d.from_float(float_conv, config(**unit))
    assert set(float_conv.state_dict()) <= set(net.state_dict())
    conv(4, 4).load_state_dict({k: v for k, v in net.state_dict().items() if k in ("weight", "bias")}, strict=True)


@units
def test_binary_checkpoint_round_trips(unit):
    first, second = (BinaryConv2d.from_float(conv(4, 4), config(**unit)) for _ in range(2))
    for parameter in first.parameters():
        nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict(), strict=True)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_checkpoint_with_a_part_of_the_unit_missing_is_an_error():
    net = BinaryConv2d.from_float(conv(4, 4), config(activation="rsign", act="rprelu"))
    state = net.state_dict()
    del state["act.beta"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"act.beta\""):
        net.load_state_dict(state)


def test_checkpoint_without_weight_or_of_another_shape_is_an_error():
    net = BinaryConv2d.from_float(conv(4, 4), config(act="prelu"))
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({"bias": torch.zeros(4)})
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        net.load_state_dict(conv(3, 4).state_dict())


def test_load_by_assignment():
    net = BinaryConv2d.from_float(conv(4, 4), config(act="rprelu"))
    net.load_state_dict(conv(4, 4).state_dict(), strict=True, assign=True)
    assert all(isinstance(parameter, nn.Parameter) for parameter in net.parameters())
    net(torch.randn(1, 4, 5, 5)).sum().backward()


@units
def test_pickle_and_deepcopy(unit):
    net = BinaryConv2d.from_float(conv(4, 4), config(**unit)).eval()
    buffer, x = io.BytesIO(), torch.randn(1, 4, 6, 6)
    torch.save(net, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x), net(x))
        assert other.config == net.config
        assert other.weight is not net.weight


def test_moving_average_by_named_parameters():
    net = BinaryConv2d.from_float(conv(4, 4), config(act="rprelu", norm="batch"))
    average = copy.deepcopy(net)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    mine, theirs = dict(average.named_parameters()), dict(net.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, parameter in mine.items():
        parameter.data.mul_(0.5).add_(theirs[name].data, alpha=0.5)
    assert not torch.equal(average.weight, net.weight)


# ---- mode, hooks, layout, dtype


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_carried_over(training):
    net = BinaryConv2d.from_float(conv(4, 4).train(training), config(norm="batch", act="prelu"))
    assert all(module.training == training for module in net.modules())


def test_frozen_weights_stay_frozen():
    net = BinaryConv2d.from_float(conv(4, 4).requires_grad_(False), config())
    assert not net.weight.requires_grad


def test_hooks_are_kept_and_can_be_removed():
    float_conv, seen = conv(4, 4), []
    handles = [
        float_conv.register_forward_hook(lambda *_: seen.append("forward")),
        float_conv.register_forward_pre_hook(lambda *_: seen.append("before")),
        float_conv.register_full_backward_hook(lambda *_: seen.append("backward")),
    ]
    net, x = BinaryConv2d.from_float(float_conv, config()), torch.randn(1, 4, 5, 5, requires_grad=True)
    net(x).sum().backward()
    assert seen == ["before", "forward", "backward"]
    for handle in handles:
        handle.remove()
    net(x).sum().backward()
    assert len(seen) == 3


@units
def test_channels_last(unit):
    net = BinaryConv2d.from_float(conv(8, 8), config(**unit)).eval()
    x = torch.randn(1, 8, 6, 7)
    expected = net(x)
    y = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("act", ["none", "prelu", "rprelu"])
@pytest.mark.parametrize("activation", ["local_mean", "sign", "rsign"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=["fp64", "fp16", "bf16"])
@pytest.mark.parametrize("before", [True, False], ids=["cast-before", "cast-after"])
def test_every_dtype_runs_forward_and_backward(norm, act, activation, dtype, before):
    float_conv, unit = conv(4, 4), config(norm=norm, act=act, activation=activation, skip=True)
    net = (
        BinaryConv2d.from_float(float_conv.to(dtype), unit)
        if before
        else BinaryConv2d.from_float(float_conv, unit).to(dtype)
    )
    y = net(torch.randn(2, 4, 5, 5).to(dtype))
    assert y.dtype == dtype
    y.float().square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.dtype == dtype, name
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("act", ["none", "prelu", "rprelu"])
@pytest.mark.parametrize("activation", ["local_mean", "sign", "rsign"])
def test_autocast(act, activation):
    net = BinaryConv2d.from_float(conv(4, 4), config(norm="batch", act=act, activation=activation, skip=True))
    x = torch.randn(2, 4, 6, 6)
    expected = net(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    y.float().sum().backward()
    assert net.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.1)


# ---- configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "locl_mean"}, r"unknown activation binarizer 'locl_mean'\. Did you mean 'local_mean'\?"),
        ({"weight": "sgn"}, r"unknown weight binarizer 'sgn'\. Did you mean 'sign'\?"),
        ({"alpha": "chanel_mean"}, r"unknown weight scale 'chanel_mean'\. Did you mean 'channel_mean'\?"),
        ({"norm": "bach"}, r"unknown unit norm 'bach'\. Did you mean 'batch'\? Allowed: batch, none"),
        ({"act": "rprlu"}, r"unknown unit act 'rprlu'\. Did you mean 'rprelu'\? Allowed: hardtanh, identity, "),
        ({"activation_options": {"window": 2}}, r"window: 2 is not allowed"),
    ],
    ids=["activation", "weight", "alpha", "norm", "act", "option"],
)
def test_unknown_names_are_errors(changes, message):
    with pytest.raises(LMBError, match=message):
        BinaryConv2d.from_float(conv(2, 2), config(**changes))


def test_packed_bytes_by_hand():
    # 3x3 kernel, 65 inputs: 9 bytes a position; 5 outputs; fp32 scale, bias and 3 x 5 of rprelu
    net = BinaryConv2d.from_float(conv(65, 5), config(act="rprelu"))
    assert net.packed_bytes == 5 * 9 * 9 + 4 * (5 + 5 + 15)
    net = BinaryConv2d.from_float(conv(65, 5, bias=False), config())
    assert net.packed_bytes == 5 * 9 * 9 + 4 * 5
    net = BinaryConv2d.from_float(conv(8, 8, bias=False, groups=2), config(norm="batch", activation="rsign"))
    assert net.packed_bytes == 8 * 9 * 1 + 4 * (8 + 8 + 8)


def test_repr_says_scale_and_skip():
    text = repr(BinaryConv2d.from_float(conv(2, 2), config(skip=True, alpha="layer_mean")))
    assert "BinaryConv2d" in text
    assert "alpha=layer_mean, skip=True" in text
    assert "window=3" in text


def test_binary_convs_yields_each_once():
    shared = BinaryConv2d.from_float(conv(2, 2), config())
    assert list(binary_convs(nn.Sequential(shared, conv(2, 2), nn.Sequential(shared)))) == [shared]
