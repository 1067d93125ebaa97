# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/packing.py: whole networks to their packed form."""

import pytest
import torch
from helpers import assert_same_state, conv, needs_compiler, recipe, small_net, state_of
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d, binary_convs, packed_convs

NETS = {
    "srresnet": lambda: LMBSRResNet(num_feat=12, num_block=2, upscale=2),
    "vdsr": lambda: LMBVDSR(num_feat=12, num_conv=3, upscale=2),
    "small": lambda: lmb.binarize(small_net(), "lmb"),
}


def trained(name):
    net = NETS[name]()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return net


@pytest.mark.parametrize("name", NETS)
def test_a_network_keeps_its_output(name):
    net, x = trained(name), torch.rand(1, 3, 14, 11)
    before = state_of(net)
    packed = lmb.convert(net)
    assert_same_state(net, before)
    assert any(p.requires_grad for p in net.parameters())
    assert not any(isinstance(m, BinaryConv2d) for m in packed.modules())
    assert sum(1 for _ in packed_convs(packed)) == sum(isinstance(m, BinaryConv2d) for m in net.modules()) > 0
    for layer in binary_convs(net):
        layer.engine = False
    with torch.no_grad():
        expected = net.eval()(x)
    y = packed(x)  # no torch.no_grad() needed: nothing asks for a gradient
    # A value within rounding of its threshold may fall to the other side behind a float layer: few pixels, if any.
    assert ((y - expected).abs() > 1e-4 * expected.abs().max()).double().mean() < 0.02


def test_in_place_aliases_and_a_second_time():
    net = trained("small")
    net.again = net[2]
    packed = lmb.convert(net, inplace=True)
    assert packed is net
    assert net.again is net[2]
    assert isinstance(net[2], PackedBinaryConv2d)
    layers = list(packed_convs(net))
    assert lmb.convert(net, inplace=True) is net
    assert list(packed_convs(net)) == layers


@pytest.mark.parametrize("inplace", [False, True])
def test_a_root_convolution(inplace):
    net = lmb.binarize(nn.Conv2d(4, 4, 3, padding=1), recipe(ignore=[]))
    packed = lmb.convert(net, inplace=inplace)
    assert isinstance(packed, PackedBinaryConv2d)
    x = torch.randn(1, 4, 5, 6)
    torch.testing.assert_close(packed(x), net.eval()(x).detach())


@pytest.mark.parametrize("name", ["srresnet", "vdsr"])
def test_the_body_is_channels_last_and_computed_in_place(name):
    packed, seen = lmb.convert(trained(name)), []
    for layer in packed_convs(packed):
        layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    packed(torch.rand(1, 3, 14, 11))
    assert all(y is x and y.is_contiguous(memory_format=torch.channels_last) for x, y in seen)
    assert len({y.data_ptr() for _, y in seen}) == 1


def test_a_body_called_from_outside_leaves_its_input_alone():
    body = lmb.convert(trained("srresnet")).body
    x = torch.randn(1, 12, 9, 8)
    before = x.clone()
    y = body(x)
    assert torch.equal(x, before)
    assert torch.equal(body(x, overwrite=True), y)


def test_the_networks_skip_keeps_its_source_where_layers_have_none():
    recipe_without_skip = recipe(unit={"skip": "none", "norm": "none", "act": "prelu"}, ignore=["@first", "@last"])
    net = LMBSRResNet(num_feat=12, num_block=2, upscale=2, recipe=recipe_without_skip)
    layers, x = lmb.convert(net), torch.randn(1, 12, 9, 8)
    expected = net.eval().body(x).detach()
    torch.testing.assert_close(layers.body(x.clone(), overwrite=True), expected)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=needs_compiler)])
def test_compile(backend):
    packed = lmb.convert(trained("srresnet"))
    compiled = torch.compile(packed, fullgraph=True, dynamic=True, backend=backend)
    for size in ((1, 3, 9, 12), (2, 3, 7, 8)):
        x = torch.rand(size)
        torch.testing.assert_close(compiled(x), packed(x))


def test_what_cannot_be_converted():
    with pytest.raises(LMBError, match=r"no binary convolution"):
        lmb.convert(small_net())
    with pytest.raises(TypeError, match="Module"):
        lmb.convert("net")
    net = trained("small")
    net[4].act = nn.GELU()
    with pytest.raises(LMBError, match=r"layer '4'.*GELU"):
        lmb.convert(net, inplace=True)
    assert isinstance(net[2], BinaryConv2d)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm], ids=["weight_norm", "spectral_norm"])
def test_right_after_a_step_with_weights_computed_elsewhere(norm):
    """The old forms keep the computed weight with its graph, which torch itself cannot copy."""
    net = lmb.binarize(nn.Sequential(conv(3, 8), norm(conv(8, 8)), conv(8, 8), conv(8, 3)), "lmb")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.rand(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    packed, x = lmb.convert(net), torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(packed(x), net.eval()(x).detach(), rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in packed.parameters())
