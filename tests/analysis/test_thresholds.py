# SPDX-License-Identifier: Apache-2.0
"""Bits by each threshold are those of the binarisers."""

import pytest
import torch
from helpers import config, conv, recipe

from lmb_quant import binarize, convert
from lmb_quant.analysis.thresholds import WAY, WAYS, Means, bits_by, distance, own_threshold
from lmb_quant.binarizers import make_activation
from lmb_quant.modules import BinaryConv2d


@pytest.mark.parametrize(
    ("way", "binarizer", "options"),
    [
        ("zero", "sign", {}),
        ("global", "local_mean", {"window": "global"}),
        ("local3", "local_mean", {"window": 3}),
        ("local7", "local_mean", {"window": 7}),
    ],
)
def test_bits_are_those_of_the_binariser(way, binarizer, options):
    x = torch.randn(2, 4, 9, 8)
    expected = make_activation(conv(4, 4), binarizer, options)(x)
    assert torch.equal(bits_by(WAY[way].make(Means(x)), x).float() * 2 - 1, expected)


@pytest.mark.parametrize("way", [way.name for way in WAYS])
def test_bits_are_the_sign_of_the_distance(way):
    x = torch.randn(2, 4, 9, 8)
    means = Means(x)
    threshold = WAY[way].make(means)
    far = distance(threshold, means).abs() > 1e-4
    assert torch.equal(bits_by(threshold, x)[far], (distance(threshold, means) >= 0)[far])


def test_the_fitted_shift_parts_two_levels():
    high = torch.rand(1, 3, 16, 16) > 0.5
    x = torch.where(high, 5.0, 2.0) + 0.1 * torch.randn(1, 3, 16, 16)
    bits = bits_by(WAY["shift"].make(Means(x)), x)
    assert float((bits == high).float().mean()) > 0.99


def test_constant_channels_have_a_shift():
    threshold = WAY["gain3"].make(Means(torch.full((1, 2, 4, 4), 3.0)))
    assert bool(torch.isfinite(threshold.shift).all())


def test_own_threshold_of_training_and_packed_form():
    net = binarize(torch.nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 3)), "lmb-plus")
    x = torch.randn(1, 8, 6, 6)
    binary, _ = own_threshold(net[1])
    packed, _ = own_threshold(convert(net.eval())[1])
    assert torch.equal(bits_by(binary, x), bits_by(packed, x))
    assert torch.equal(bits_by(binary, x).float() * 2 - 1, net[1].binarize_input(x))
    assert own_threshold(net[0]) == (None, "")


def test_bits_without_one_threshold_have_a_reason():
    layer = BinaryConv2d.from_float(conv(4, 4), config(activation="lab", activation_options={}))
    threshold, reason = own_threshold(layer)
    assert threshold is None
    assert "lab" in reason
    assert recipe("lab")["scheme"]["activation"]["binarizer"] == "lab"
