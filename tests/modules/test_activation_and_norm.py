# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/modules/activation and norm."""

import numpy as np
import pytest
import torch
from helpers import assert_close, config, conv
from torch import nn

from lmb_quant import LMBError
from lmb_quant.modules import ACTIVATIONS, NORMS, BinaryConv2d, PackedBinaryConv2d, RPReLU, make_act, make_norm


def test_rprelu_against_the_formula():
    act = RPReLU(3)
    for parameter in act.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3, 4, 5)
    gamma, beta, zeta = (p.detach().double().numpy()[:, None, None] for p in (act.gamma, act.beta, act.zeta))
    u = x.double().numpy() - gamma
    assert_close(act(x), np.where(u > 0, u, beta * u) + zeta)


def test_rprelu_starts_as_leaky_relu():
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(RPReLU(2)(x), nn.functional.leaky_relu(x, 0.25))


def test_maxout_against_the_formula():
    act, x = make_act("maxout", 3), torch.randn(2, 3, 4, 5)
    assert torch.equal(act(x), nn.functional.leaky_relu(x, 0.25))  # at first
    for parameter in act.parameters():
        nn.init.normal_(parameter)
    a, b = (p.detach().double().numpy()[:, None, None] for p in (act.positive, act.negative))
    u = x.double().numpy()
    assert_close(act(x), a * np.maximum(u, 0) - b * np.maximum(-u, 0))


@pytest.mark.parametrize("name", ["none", "identity"])
def test_none_and_identity_are_one_function_and_only_one_replaces_that_of_the_network(name):
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(make_act(name, 3)(x), x)
    binary = BinaryConv2d.from_float(conv(3, 3), config(act=name)).eval()
    packed = PackedBinaryConv2d.from_binary(binary)
    assert binary.replaces_act == packed.replaces_act == (name == "identity")
    assert torch.equal(packed(x), PackedBinaryConv2d.from_binary(BinaryConv2d.from_float(binary, config()))(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_act_keeps_shape_and_dtype(name, dtype):
    x = torch.randn(2, 3, 4, 4).to(dtype)
    y = make_act(name, 3).to(dtype)(x)
    assert (y.shape, y.dtype) == (x.shape, dtype)


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_keeps_the_shape(name):
    assert make_norm(name, 3)(torch.randn(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_unknown_names():
    with pytest.raises(LMBError, match=r"unknown unit act 'relu'\. Did you mean 'prelu'\?"):
        make_act("relu", 3)
    with pytest.raises(LMBError, match=r"unknown unit norm 'layer'\. Allowed: batch, none\."):
        make_norm("layer", 3)
