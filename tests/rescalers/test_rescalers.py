# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/rescalers: factors worked out by hand, and the convolutions that they need."""

import math

import pytest
import torch
from helpers import conv, set_values
from torch import nn

from lmb_quant import LMBError
from lmb_quant.rescalers import make_rescaler


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_xnor_map_is_the_box_filter_of_the_mean_magnitude():
    """A = mean_c |x| = (1, 2, 4) in one row: K = (1 + 2, 1 + 2 + 4, 2 + 4) / 9 with a 3 x 3 kernel, 0 outside."""
    x = torch.tensor([[2.0, -3.0, 4.0], [0.0, 1.0, -4.0]]).view(1, 2, 1, 3)
    same, factor = make_rescaler(conv(2, 5), "input_mean", {})(x)
    assert same is x
    torch.testing.assert_close(factor, torch.tensor([3.0, 7.0, 6.0]).view(1, 1, 1, 3) / 9)
    _, factor = make_rescaler(nn.Conv2d(2, 5, (1, 2), stride=(1, 2)), "input_mean", {})(x)
    assert factor.flatten().tolist() == [1.5]


def test_ebsr_layer():
    """Means m = (1, 2): hidden (1, 2, 0, 0); by weights set here shift = (2 m_1, -3 m_2) = (2, -6), scale = (m_2, 0).

    The map at a pixel is sigmoid(x_1 - x_2 / 2).
    """
    rescaler = make_rescaler(conv(2, 2), "ebsr", {})
    result = rescaler.channels[3]
    set_values(
        weight=(result.weight, [[2.0, 0, 0, 0], [0, -3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
        spatial=(rescaler.spatial.weight, [1.0, -0.5]),
    )
    x = torch.tensor([[0.0, 2.0], [1.0, 3.0]]).view(1, 2, 1, 2)
    shifted, factor = rescaler(x)
    assert shifted.flatten(2).tolist() == [[[2.0, 4.0], [-5.0, -3.0]]]
    maps = [sigmoid(-0.5), sigmoid(0.5)]
    expected = [[sigmoid(2) * m for m in maps], [0.5 * m for m in maps]]
    torch.testing.assert_close(factor.flatten(2)[0], torch.tensor(expected))


def test_scales_factor():
    """Means (1, 2): the kernel (0, 0, 1, 2, 0) gives (1 + 2 * 2, 2) = (5, 2); the map is sigmoid(x_1 - x_2 / 2)."""
    rescaler = make_rescaler(conv(2, 2), "scales", {})
    set_values(channel=(rescaler.channel.weight, [0.0, 0, 1, 2, 0]), spatial=(rescaler.spatial.weight, [1.0, -0.5]))
    x = torch.tensor([[0.0, 2.0], [1.0, 3.0]]).view(1, 2, 1, 2)
    same, factor = rescaler(x)
    assert same is x
    expected = [[sigmoid(c) * sigmoid(p) for p in (-0.5, 0.5)] for c in (5, 2)]
    torch.testing.assert_close(factor.flatten(2)[0], torch.tensor(expected))


def test_spatial_is_a_limited_map_of_each_pixel():
    rescaler = make_rescaler(conv(2, 3), "spatial", {})
    x = torch.tensor([[1.0, 2.0, -3.0, 8.0], [0.0, 2.0, 1.0, 8.0]]).view(1, 2, 1, 4)
    same, factor = rescaler(x)
    assert same is x
    assert torch.equal(factor, torch.full((1, 1, 1, 4), 0.5))
    set_values(weight=(rescaler.spatial.weight, [1.0, -0.5]), bias=(rescaler.spatial.bias, [0.5]))
    _, factor = rescaler(x)
    assert factor.flatten().tolist() == [0.875, 0.875, 0.0, 1.0]
    assert rescaler.packed_factor().tolist() == [0.25, -0.125, 0.625]


@pytest.mark.parametrize("name", ["ebsr", "scales", "spatial"])
def test_rescalers_need_convolutions_that_keep_the_size(name):
    for other in (conv(4, 4, stride=2), conv(4, 4, padding=0)):
        with pytest.raises(LMBError, match=rf"rescaler '{name}': .* changes height or width"):
            make_rescaler(other, name, {})
    with pytest.raises(LMBError, match=r"rescaler 'scales': .* changes the number of channels"):
        make_rescaler(conv(4, 5), "scales", {})
