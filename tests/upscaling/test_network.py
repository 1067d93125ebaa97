# SPDX-License-Identifier: Apache-2.0
"""What a trial run finds out about a network, and that it leaves no trace."""

import pytest
import torch
from helpers import recipe
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.upscaling.network import find_traits, is_local, ready

from .conftest import make_network


def traits_of(net):
    with ready(net):
        return find_traits(net)


def locality_of(net):
    with ready(net):
        return is_local(net, find_traits(net))


def conv(kernel=3, inputs=3, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": "same", **options})


@pytest.mark.parametrize(
    ("net", "reach"),
    [
        (nn.Sequential(conv(3), conv(5)), 1 + 2),
        (nn.Sequential(conv(5, dilation=3)), 6),
        (nn.Sequential(nn.Upsample(scale_factor=2), conv(5), conv(5)), 1 + 2),  # the first 1: nearest, at most
        (nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(1)), 1),
        (nn.Sequential(nn.ReplicationPad2d(2), conv(5, padding=0)), 2 + 4),  # an upper bound
    ],
)
def test_reach_is_summed_in_lr_pixels(net, reach):
    assert traits_of(net).reach == reach + 1  # and one for rounding at changes of size


@pytest.mark.parametrize("window", [3, 7])
def test_windows_count_in_both_forms(window):
    net = make_network(recipe=recipe(activation={"window": window}))
    half = window // 2
    expected = 1 + 4 * (1 + half) + 1 + 1 + 1  # head, body, tail, bilinear enlargement, rounding
    assert traits_of(net).reach == traits_of(lmb.convert(net)).reach == expected


def test_strided_networks_have_an_alignment():
    net = nn.Sequential(nn.PixelUnshuffle(2), conv(3, 12, 48), nn.PixelShuffle(4))
    traits = traits_of(net)
    assert (traits.upscale, traits.alignment, traits.reach) == (2, 2, 2 + 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_and_upscale(channels):
    traits = traits_of(make_network("vdsr", num_in_ch=channels, num_out_ch=channels, upscale=3))
    assert (traits.channels, traits.upscale) == (channels, 3)


class Rolled(nn.Module):
    """Looks 40 pixels to the left by an operation that is not known to the trial run."""

    def forward(self, x):
        return x + x.roll(40, 3)


class Attention(nn.Module):
    """Channel attention, as RCAN has it."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = conv(), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        y = self.conv(x)
        return y * torch.sigmoid(self.pool(y))


def test_locality_is_measured():
    assert locality_of(nn.Sequential(conv(3), conv(5)))
    assert locality_of(make_network())
    assert not locality_of(nn.Sequential(conv(), Rolled()))
    assert not locality_of(Attention())


@pytest.mark.parametrize("form", [lambda net: net, lmb.convert], ids=["training", "packed"])
def test_global_windows_are_known(form):
    net = form(make_network(recipe=recipe(activation={"window": "global"})))
    assert traits_of(net).sees_all
    assert not locality_of(net)


def test_nothing_is_left_behind():
    net = make_network()
    net.tail.eval()  # part of a network in another mode
    image, modes, threads = torch.rand(3, 5, 5), [m.training for m in net.modules()], torch.get_num_threads()
    rng = torch.get_rng_state()
    lmb.upscale(net, image, threads=threads + 1)
    assert torch.equal(torch.get_rng_state(), rng)
    assert [m.training for m in net.modules()] == modes
    assert torch.get_num_threads() == threads
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_modes_are_restored_after_a_failure():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(LMBError, match="model: it does not run on an image of 24 x 24"):
        lmb.upscale(net, torch.rand(3, 5, 5), threads=1)
    assert net.training


class Broken(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x, x), "its result is tuple"),
        (lambda x: x[0], r"its result is shape \(3, 24, 24\)"),
        (lambda x: x[:, :, 1:], "height and width times a whole number"),
        (lambda x: x[:, :1], "the same channels"),
        (lambda x: x * float("nan"), "has NaN or infinities"),
        (lambda x: x / 0, "has NaN or infinities"),
    ],
)
def test_a_network_that_does_not_enlarge_is_named(make, message):
    with pytest.raises(LMBError, match=message):
        lmb.upscale(Broken(make), torch.rand(3, 5, 5))


def test_nan_of_one_tile_is_an_error():
    def make(x):
        return torch.where(x > 2, torch.nan, x)

    image = torch.zeros(3, 30, 30)
    image[0, 29, 29] = 3
    with pytest.raises(LMBError, match="has NaN or infinities"):
        lmb.upscale(Broken(make), image, tile=8)


def test_too_little_memory_names_the_remedy():
    def make(x):
        return x + torch.empty(1 << 60) if x.shape[-1] == 31 else x

    with pytest.raises(LMBError, match=r"do not fit into memory.*tile=256"):
        lmb.upscale(Broken(make), torch.rand(3, 31, 31))
