# SPDX-License-Identifier: Apache-2.0
"""recipes/*.yaml whose unit is more than signs and a scale: whole layers and blocks, worked out from the papers."""

import math

import numpy as np
import pytest
import torch
from helpers import conv, recipe, set_values, small_net
from torch import nn
from torch.nn import functional as F

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs.srresnet import ResidualBlock
from lmb_quant.bench.suite.plan.code import binarizer_digests
from lmb_quant.binarizers import make_activation, make_weight
from lmb_quant.ops import local_mean_sign, sign_pm1


def one_by_one(weight, bias, name, **changes):
    """A binary 1 x 1 convolution of one map, made by a recipe."""
    layer = nn.Conv2d(1, 1, 1)
    set_values(weight=(layer.weight, weight), bias=(layer.bias, bias))
    return lmb.binarize(layer, recipe(name, ignore=[], **changes))


def binary_block(name, channels=4):
    torch.manual_seed(0)
    net = nn.Sequential(conv(3, channels), ResidualBlock(channels), conv(channels, 3))
    return lmb.binarize(net, name)[1]


def randomize(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)


# ---- XNOR-Net


def test_xnor_layer():
    """I = x, 1 x 1: y = K alpha sign(x) sign(w) + b = |x| 0.5 (-1) sign(x) + 1 = 1 - x/2, K = |x|, alpha = |w|.

    dy/dx = sign(x) alpha sign(w) sign(x) (through K) + K alpha sign(w) 1[|x| <= 1] = -1/2 - |x|/2 where |x| <= 1.
    dy/dw = K sign(x) (1/n + alpha 1[|w| <= 1]) = 3/2 x, n = 1.
    """
    layer = one_by_one(-0.5, 1.0, "xnor", unit={"pre_norm": "none"})
    x = torch.tensor([-2.0, -0.5, 0.25, 1.0]).view(1, 1, 1, 4).requires_grad_()
    y = layer(x)
    assert y.flatten().tolist() == [2.0, 1.25, 0.875, 0.5]
    y.sum().backward()
    assert x.grad.flatten().tolist() == [-0.5, -0.75, -0.625, -1.0]
    assert layer.weight.grad.item() == pytest.approx(1.5 * (-2.0 - 0.5 + 0.25 + 1.0))
    assert layer.bias.grad.item() == 4


def test_xnor_normalises_before_the_sign():
    """BN(x) = (x - 3) / 2 in eval mode: signs and K are of that, the network's own residual is of x."""
    layer = one_by_one(1.0, 0.0, "xnor").eval()
    layer.pre_norm.running_mean.fill_(3.0)
    layer.pre_norm.running_var.fill_(4.0 - layer.pre_norm.eps)
    x = torch.tensor([1.0, 4.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([-1.0, 0.5]))


# ---- ABC-Net


def test_abcnet_weights_by_least_squares():
    """w = (-3, -1, 1, 3): mean 0, std 2.24; B = sign(w - std), sign(w), sign(w + std), and w = B_1 + B_2 + B_3."""
    binarizer = make_weight(conv(4, 1, 1), "abcnet", {})
    w = torch.tensor([-3.0, -1.0, 1.0, 3.0]).view(1, 4, 1, 1).requires_grad_()
    y = binarizer(w)
    torch.testing.assert_close(y, w)
    y[:, 0].sum().backward()
    torch.testing.assert_close(w.grad.flatten(), torch.tensor([3.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("bases", [1, 2, 3, 5])
def test_abcnet_weights_against_numpy(bases):
    w = torch.randn(5, 4, 3, 3)
    flat = w.double().numpy().ravel()
    shifts = np.linspace(-1, 1, bases) if bases > 1 else np.zeros(1)
    signs = np.where(flat - flat.mean() + shifts[:, None] * flat.std() >= 0, 1.0, -1.0)
    alpha = np.linalg.lstsq(signs.T, flat, rcond=None)[0]
    y = make_weight(conv(4, 5), "abcnet", {"bases": bases})(w)
    np.testing.assert_allclose(y.numpy().ravel(), alpha @ signs, rtol=1e-5, atol=1e-6)


def test_abcnet_activation_learns_thresholds_and_scales():
    """v = (1, -1/2), beta = (2, 1/2), x = 0: H = sign(v - 1/2) = (1, -1), g = (1, 0); y = 3/2, dy/dx = dy/dv_1 = 2."""
    binarizer = make_activation(conv(1, 1), "abcnet", {"bases": 2})
    set_values(v=(binarizer.v, [1.0, -0.5]), beta=(binarizer.beta, [2.0, 0.5]))
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    y = binarizer(x)
    y.sum().backward()
    assert (y.item(), x.grad.item()) == (1.5, 2.0)
    assert (binarizer.v.grad.tolist(), binarizer.beta.grad.tolist()) == ([2.0, 0.0], [1.0, -1.0])


def test_abcnet_is_the_sum_of_binary_convolutions():
    layer = lmb.binarize(conv(4, 3), recipe("abcnet", ignore=[], unit={"pre_norm": "none"}))
    x, a, w = torch.randn(2, 4, 6, 5), layer.binarize_input, layer.weight.detach()
    shifts = [-1, 0, 1]
    signs = [sign_pm1(w - w.mean() + u * w.std(correction=0)) for u in shifts]
    alpha = torch.linalg.lstsq(torch.stack([b.flatten() for b in signs], 1), w.flatten()[:, None]).solution.flatten()
    expected = layer.bias.view(1, -1, 1, 1) + sum(
        alpha[m] * a.beta[n] * F.conv2d(sign_pm1(x + a.v[n] - 0.5), signs[m], padding=1)
        for m in range(3)
        for n in range(3)
    )
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [make_activation, make_weight])
@pytest.mark.parametrize("bases", [0, 9, 2.0, True], ids=repr)
def test_abcnet_refuses_bases(make, bases):
    with pytest.raises(LMBError, match=r"bases: .* is not allowed"):
        make(conv(2, 2), "abcnet", {"bases": bases})


# ---- BAM


def test_bam_block():
    """Two layers: A_2 = relu(y_1), signs of BN(S) with S_1 = b_1 E|A_1| A_1, S_2 = S_1 + b_2 E|A_2| A_2; W likewise."""
    block = binary_block("bam").train()
    one, two = block.conv1, block.conv2
    set_values(
        b1=(one.binarize_input.beta, 0.5), b2=(two.binarize_input.beta, 2.0),
        a1=(one.binarize_weight.alpha, 3.0), a2=(two.binarize_weight.alpha, -1.0),
    )  # fmt: skip
    x = torch.randn(2, 4, 6, 5)

    def bits(total):
        return sign_pm1(F.batch_norm(total, None, None, training=True))

    def filters(total, own):
        return own.abs().mean(dim=(1, 2, 3), keepdim=True) * sign_pm1(total - total.mean(dim=(1, 2, 3), keepdim=True))

    first = 0.5 * x.abs().mean(dim=1, keepdim=True) * x
    w1, w2 = one.weight.detach(), two.weight.detach()
    middle = F.relu(F.conv2d(bits(first), filters(3 * w1, w1), one.bias, padding=1))
    second = first + 2 * middle.abs().mean(dim=1, keepdim=True) * middle
    expected = x + F.conv2d(bits(second), filters(3 * w1 - w2, w2), two.bias, padding=1)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_bam_weights_of_a_later_layer_train_the_earlier_ones():
    """V_2 = a_1 W_1 + a_2 W_2, so dL/dW_1 = a_1 / a_2 dL/dW_2."""
    block = binary_block("bam")
    one, two = block.conv1, block.conv2
    set_values(a1=(one.binarize_weight.alpha, 3.0), a2=(two.binarize_weight.alpha, -1.0))
    one.binarize_weight(one.weight)
    y = two.binarize_weight(two.weight)
    first, second = torch.autograd.grad((y * torch.randn_like(y)).sum(), [one.weight, two.weight])
    assert second.abs().max() > 0
    torch.testing.assert_close(first, -3 * second)


# ---- EBSR, SCALES


def test_ebsr_starts_as_a_quarter_of_the_plain_convolution():
    layer = lmb.binarize(conv(3, 5), recipe("ebsr", ignore=[], unit={"act": "identity"}))
    x = torch.randn(2, 3, 6, 5)
    w = layer.weight.detach()
    y = F.conv2d(sign_pm1(x), w.abs().mean(dim=(1, 2, 3), keepdim=True) * sign_pm1(w), padding=1) / 4
    torch.testing.assert_close(layer(x), y + layer.bias.view(1, -1, 1, 1))


def test_scales_activation_learns_its_scale():
    """alpha = 2, beta = 1, x = 2: u = 1/2, g = 1; y = 2, dy/dx = 1, dy/dbeta = -1, dy/dlog alpha = 2 (1 - u g) = 1."""
    binarizer = make_activation(conv(1, 1), "scales", {})
    set_values(alpha=(binarizer.log_alpha, math.log(2)), beta=(binarizer.beta, 1.0))
    x = torch.full((1, 1, 1, 1), 2.0, requires_grad=True)
    y = binarizer(x)
    y.sum().backward()
    found = (y.item(), x.grad.item(), binarizer.beta.grad.item(), binarizer.log_alpha.grad.item())
    assert found == pytest.approx((2.0, 1.0, -1.0, 1.0))


def test_results_of_the_suite_depend_on_the_rescalers_code():
    digests = {name: binarizer_digests(lmb.Recipe.load(name)) for name in ("ebsr", "scales", "xnor", "bbcu")}
    assert {key for digest in digests.values() for key in digest if key.startswith("rescale ")} == {
        "rescale ebsr", "rescale scales", "rescale input_mean",
    }  # fmt: skip
    assert digests["ebsr"]["rescale ebsr"] not in digests["bbcu"].values()


# ---- LAB


def test_lab_by_hand():
    """Filters o_1 - o_0 = x - (left neighbour): in a row (1, 3, 2, 2) d = (1, 2, -1, 0), 0 outside; ties are +1."""
    binarizer = make_activation(conv(1, 1), "lab", {})
    with torch.no_grad():
        binarizer.maps.weight.zero_()
        binarizer.maps.weight[1, 0, 1, 1] = 1.0
        binarizer.maps.weight[0, 0, 1, 0] = 1.0
    y = binarizer(torch.tensor([1.0, 3.0, 2.0, 2.0]).view(1, 1, 1, 4))
    assert y.flatten().tolist() == [1, 1, -1, 1]


def test_lab_can_be_a_local_mean():
    """With the filter (centre - box) it is LMB's threshold wherever the window lies inside the image."""
    binarizer, x = make_activation(conv(3, 3), "lab", {}), torch.randn(1, 3, 8, 9)
    with torch.no_grad():
        binarizer.maps.weight.zero_()
        binarizer.maps.weight[1::2] -= 1 / 9
        binarizer.maps.weight[1::2, 0, 1, 1] += 1
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.equal(binarizer(x)[inside], local_mean_sign(x, 3)[inside])


# ---- E2FIF, BBCU


def test_e2fif_block():
    """x1 = lrelu(BN(C(x)) + x), out = BN(C(x1)) + x1: signs without a scale, LeakyReLU 0.1 inside the block only."""
    block, x = binary_block("e2fif").train(), torch.randn(2, 4, 6, 5)
    randomize(block)

    def branch(layer, a):
        y = F.conv2d(sign_pm1(a), sign_pm1(layer.weight), layer.bias, padding=1)
        return F.batch_norm(y, None, None, layer.norm.weight, layer.norm.bias, training=True)

    inner = F.leaky_relu(branch(block.conv1, x) + x, 0.1)
    torch.testing.assert_close(block(x), branch(block.conv2, inner) + inner, rtol=1e-4, atol=1e-4)


def test_reactnet_layer():
    """y = RPReLU(BN(alpha sign(w) sign(x - t)) + x): x = (2, -1), t = 1/2, w = -1/2: BN(-+1/2) + x = (3/2, -1/2).

    BN is the identity; RPReLU with gamma = 1/2, beta = 2, zeta = 1: 3/2 - 1/2 + 1 = 2 and 2 (-1/2 - 1/2) + 1 = -1.
    """
    layer = one_by_one(-0.5, 0.0, "reactnet").eval()
    layer.norm.eps = 0.0
    set_values(
        t=(layer.binarize_input.threshold, 0.5), gamma=(layer.act.gamma, 0.5), beta=(layer.act.beta, 2.0),
        zeta=(layer.act.zeta, 1.0),
    )  # fmt: skip
    x = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2)
    assert layer(x).flatten().tolist() == [2.0, -1.0]


def test_bbcu_layer():
    """y = RPReLU(alpha sign(w) sign(x - t) + b) + x: x = (2, -1), t = 1/2, w = -1/4, b = 1/2: +-1/4 + 1/2 = (1/4, 3/4).

    RPReLU with gamma = 1/2, beta = 2, zeta = 1: 2 (1/4 - 1/2) + 1 = 1/2 and 3/4 - 1/2 + 1 = 5/4.
    """
    layer = one_by_one(-0.25, 0.5, "bbcu")
    set_values(
        t=(layer.binarize_input.threshold, 0.5), gamma=(layer.act.gamma, 0.5), beta=(layer.act.beta, 2.0),
        zeta=(layer.act.zeta, 1.0),
    )  # fmt: skip
    assert layer.config.skip
    x = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2)
    assert layer(x).flatten().tolist() == [2.5, 0.25]


def test_bbcu_and_btm_have_no_norm_and_pack():
    for name in ("bbcu", "btm"):
        net = lmb.binarize(small_net(), name).eval()
        assert not any(isinstance(part, nn.BatchNorm2d) for part in net.modules())
        x = torch.rand(1, 3, 9, 8)
        with torch.no_grad():
            torch.testing.assert_close(lmb.convert(net)(x), net(x), rtol=1e-4, atol=1e-4)
