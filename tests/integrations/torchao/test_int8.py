# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/int8.py: int8 after calibration, and int8 that was trained."""

import copy

import pytest
import torch
from torch import nn

from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.errors import LMBError
from lmb_quant.structure import find_structure

pytest.importorskip("lmb_quant.integrations.torchao.int8", exc_type=ImportError)  # not with the oldest torchao

from lmb_quant.integrations.torchao import UnsupportedSchemeError
from lmb_quant.integrations.torchao.int8 import Int8Training, static_int8

SIZES = ((20, 24), (17, 31))


def network(make=LMBSRResNet, **arguments):
    """A float network whose last layer is not zero, and images of several sizes."""
    torch.manual_seed(0)
    net = make(num_feat=8, upscale=2, recipe=None, **arguments).eval().requires_grad_(False)
    last = [module for module in net.modules() if isinstance(module, nn.Conv2d)][-1]
    nn.init.normal_(last.weight, std=0.05)
    return net, [torch.rand(1, 3, *size) for size in SIZES]


def sqnr(expected, actual):
    return 20 * torch.log10(expected.norm() / (expected - actual).norm()).item()


@pytest.mark.parametrize(
    ("make", "arguments"), [(LMBSRResNet, {"num_block": 1}), (LMBVDSR, {"num_conv": 2})], ids=["srresnet", "vdsr"]
)
def test_static_int8_has_every_convolution_in_int8_at_any_size(make, arguments):
    net, images = network(make, **arguments)
    before = copy.deepcopy(net.state_dict())
    int8 = static_int8(net, images)
    convs = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    assert set(int8.int8_layers()) == set(convs)
    for image in (*images, torch.rand(2, 3, 33, 18)):
        assert 30 < sqnr(net(image), int8(image)) < 80
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    tensors = int8.tensors().values()
    whole = sum(t.numel() for t in tensors if t.dtype == torch.int8 and t.ndim == 4)
    assert whole == sum(conv.weight.numel() for conv in convs.values())
    assert not any(t.is_floating_point() and t.ndim == 4 for t in tensors)  # the float weights are not in the file
    biases = [conv.bias for conv in convs.values()]
    assert all(any(torch.equal(bias, t) for t in tensors if t.shape == bias.shape) for bias in biases)


def test_more_bits_and_float_ends_are_closer():
    net, images = network(num_block=1)
    structure = find_structure(net)
    narrow, wide = (static_int8(net, images, bits=bits) for bits in (7, 8))
    ends = static_int8(net, images, bits=8, float_layers=structure.first | structure.last)
    assert set(ends.int8_layers()) == {"body.0.conv1", "body.0.conv2"}
    found = [sqnr(net(images[0]), form(images[0])) for form in (narrow, wide, ends)]
    assert found == sorted(found)


def test_what_has_no_convolution_is_unsupported():
    with pytest.raises(UnsupportedSchemeError, match="leaves every convolution as it is"):
        static_int8(nn.Upsample(scale_factor=2), [torch.rand(1, 3, 8, 8)])


@pytest.mark.parametrize("bits", [0, 4, 9, "8", True])
def test_bits_are_seven_or_eight(bits):
    net, images = network(num_block=1)
    for quantise in (lambda: static_int8(net, images, bits=bits), lambda: Int8Training(net, bits)):
        with pytest.raises(LMBError, match=rf"bits of activations: {bits!r} is not allowed. Allowed: 7, 8"):
            quantise()


def test_int8_training_learns_saves_and_converts():
    net, images = network(num_block=1)
    names = {name for name, _ in net.named_parameters()}
    qat = Int8Training(copy.deepcopy(net).requires_grad_(True))
    assert {name.removeprefix("graph.") for name, _ in qat.named_parameters()} == names
    optimizer = torch.optim.Adam(qat.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = (qat(images[0]) - 0.5).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    qat.eval()
    state = {name: value.clone() for name, value in qat.state_dict().items()}
    with torch.no_grad():
        expected = qat(10 * images[1])  # observers are asleep: what lies outside their ranges moves nothing
        again = Int8Training(network(num_block=1)[0])
        again.load_state_dict(state)
        again.eval()
        assert torch.equal(again(10 * images[1]), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(again(10 * images[1]), expected)
        assert all(torch.equal(value, state[name]) for name, value in qat.state_dict().items())
        converted = qat.converted()
        assert set(converted.int8_layers()) == {"conv_first", "body.0.conv1", "body.0.conv2", "tail.0"}
        assert sqnr(qat(images[0]), converted(images[0])) > 30
