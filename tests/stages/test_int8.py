# SPDX-License-Identifier: Apache-2.0
"""Real pointwise convolutions that multiply in 8 bits, where the engine runs a network in one call."""

import numpy as np
import pytest
import torch
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBHybridNet, LMBSRResNet
from lmb_quant.ops._library import find
from lmb_quant.stages import Stages, forward, network_of, require_int8
from lmb_quant.upscaling import Upscaler

from .test_entry import make

pytestmark = [pytest.mark.skipif(find()[0] is None, reason="no engine"), pytest.mark.usefixtures("_without_gradients")]


class Pointwise(nn.Module):
    """One convolution of 1 x 1."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.conv(x)

    def stages(self):
        stages = Stages(self.conv.in_channels)
        stages.conv(self.conv)
        return stages


def whole(values, dim):
    """Values as whole numbers of a unit, 127 of which are the largest along ``dim``; and the unit."""
    largest = values.abs().amax(dim, keepdim=True)
    some = largest > 1e-30
    numbers = torch.where(some, (values * (127 / largest)).round(), 0)
    return numbers, torch.where(some, largest / 127, 0)


def defined(net, x):
    """What the engine has to give, bit for bit; sums of whole numbers are exact in float64."""
    weights, weight_unit = whole(net.conv.weight.flatten(1), 1)
    values, value_unit = whole(x, 1)
    sums = torch.einsum("oi,nihw->nohw", weights.double(), values.double()).float()
    return sums * value_unit * weight_unit.view(1, -1, 1, 1) + net.conv.bias.view(1, -1, 1, 1)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 5), (64, 64), (64, 48), (70, 130), (1024, 17)])
def test_values_are_those_of_the_definition(inputs, outputs):
    net, x = Pointwise(inputs, outputs), torch.randn(2, inputs, 5, 7)
    x[:, :, 1, 2] = 0
    assert lmb.set_real_arithmetic(net, "int8") == 1
    assert torch.equal(forward(net, x), defined(net, x))


def test_rows_of_a_file_with_int8_weights_lose_nothing(tmp_path):
    net = make(LMBHybridNet, num_block=1)
    lmb.save(net, tmp_path / "net.safetensors", real_weights="int8")
    for conv in (m for m in lmb.load(tmp_path / "net.safetensors").modules() if type(m) is nn.Conv2d):
        numbers, unit = whole(conv.weight.flatten(1), 1)
        assert torch.allclose(numbers * unit, conv.weight.flatten(1), rtol=1e-6, atol=0)


def test_the_mark_is_noticed_and_taken_back():
    net, x = make(LMBHybridNet), torch.rand(1, 3, 9, 8)
    before = forward(net, x)
    assert lmb.set_real_arithmetic(net, "int8") == 5  # four blocks', and the tail's
    in_int8 = forward(net, x)
    assert not torch.equal(in_int8, before)
    assert lmb.set_real_arithmetic(net, "float32") == 5
    assert torch.equal(forward(net, x), before)


def test_module_by_module_and_in_a_file_it_is_float32(tmp_path):
    net, x = make(LMBHybridNet), torch.rand(1, 3, 9, 8)
    by_modules, in_one_call = net(x), forward(net, x)
    lmb.set_real_arithmetic(net, "int8")
    assert torch.equal(net(x), by_modules)
    lmb.save(net, tmp_path / "net.safetensors")
    assert torch.equal(forward(lmb.load(tmp_path / "net.safetensors"), x), in_one_call)


def test_a_trained_network_makes_nearly_the_same_picture():
    net = lmb.from_pretrained("lmb_small_x4")
    picture = np.linspace(0, 255, 24 * 31 * 3).reshape(24, 31, 3).astype(np.uint8)
    wanted = lmb.upscale(net, picture).astype(int)
    require_int8(net)
    found = lmb.upscale(net, picture).astype(int)
    assert 0 < np.abs(found - wanted).max() <= 8
    assert np.abs(found - wanted).mean() < 0.2


def test_tiles_are_the_whole_image_to_the_bit():
    net = make(LMBHybridNet)
    require_int8(net)
    image = np.random.default_rng(0).integers(0, 256, (33, 40, 3), np.uint8)
    assert np.array_equal(Upscaler(net, tile=16)(image), lmb.upscale(net, image))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(odd):
    net, x = Pointwise(20, 4), torch.rand(1, 20, 2, 3)
    x[0, 19, 1, 1] = odd
    lmb.set_real_arithmetic(net, "int8")
    y = forward(net, x)
    assert y[..., 1, 1].isnan().all()
    y[..., 1, 1] = 0
    assert y.isfinite().all()


def test_convolutions_that_cannot_stay_in_float32():
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(1025, 8, 1), make(LMBHybridNet, num_block=1)
    )
    assert lmb.set_real_arithmetic(net, "int8") == 2
    assert network_of(net) is None


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(LMBError, match=r"unknown arithmetic 'int4'.*Allowed: float32, int8"):
        lmb.set_real_arithmetic(make(LMBHybridNet), "int4")
    with pytest.raises(LMBError, match=r"the network has no real pointwise convolution\. Allowed: float32"):
        require_int8(make(LMBSRResNet))
    with pytest.raises(LMBError, match=r"runs module by module: Sequential says no stages"):
        require_int8(nn.Sequential(nn.Conv2d(3, 3, 1)))
