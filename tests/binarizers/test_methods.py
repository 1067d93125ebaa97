# SPDX-License-Identifier: Apache-2.0
"""recipes/*.yaml: what a whole recipe makes of a filter and of a row of activations, worked out from the papers."""

import math

import pytest
import torch
from helpers import conv, recipe
from torch import nn

import lmb_quant as lmb
from lmb_quant.bench.suite.plan.methods import resolve_methods
from lmb_quant.bench.suite.plan.schema import Suite
from lmb_quant.binarizers import make_activation, make_weight, set_progress
from lmb_quant.ops import weight_scale

WEIGHTS = ((-1.5, -0.25, 0.25, 2.0), (0.5, -0.5, 0.5, -0.5))  # mean|w| of the filters 1 and 1/2, of the layer 3/4
ROW = (-1.5, -0.5, 0.25, 0.75)

H = math.sqrt(3) / 2
FDA_QUARTER = 1 / math.sin(math.pi / 8)  # ten cosines at 1/4: sin(5 pi / 2) / sin(pi / 8)
FDA_THREE_QUARTERS = -1 / math.sin(3 * math.pi / 8)  # and at 3/4: sin(15 pi / 2) / sin(3 pi / 8); at 1/2: 0

# name -> binary weights W_b (first filter, second filter) and dW_b/dw, both with alpha. All at the start of training.
FILTERS = {
    # BNN, arXiv 1602.02830, eq. 1 and 4: W_b = sign(w), 1 where |w| <= 1
    "bnn": (((-1, -1, 1, 1), (1, -1, 1, -1)), ((0, 1, 1, 0), (1, 1, 1, 1))),
    # DoReFa-Net, arXiv 1606.06160, eq. 7 and 8: W_b = sign(w) E|w| over the layer, dc/dw = dc/dW_b
    "dorefa": (((-0.75, -0.75, 0.75, 0.75), (0.75, -0.75, 0.75, -0.75)), ((1, 1, 1, 1), (1, 1, 1, 1))),
    # Bi-Real Net, arXiv 1808.00278, section 3.3 (magnitude-aware): W_b = mean|w| sign(w), mean|w| where |w| < 1
    "bireal": (((-1, -1, 1, 1), (0.5, -0.5, 0.5, -0.5)), ((0, 1, 1, 0), (0.5, 0.5, 0.5, 0.5))),
    "design": (((-1, -1, 1, 1), (0.5, -0.5, 0.5, -0.5)), ((0, 1, 1, 0), (0.5, 0.5, 0.5, 0.5))),
    # ReActNet, its code: W_b as in Bi-Real Net, and 1 where |w| <= 1
    "reactnet": (((-1, -1, 1, 1), (0.5, -0.5, 0.5, -0.5)), ((0, 1, 1, 0), (1, 1, 1, 1))),
    # FDA-BNN, arXiv 2103.00841: E|w| over the layer times (4 w / pi) sum cos, n = 9
    "fda": (
        ((-0.75, -0.75, 0.75, 0.75), (0.75, -0.75, 0.75, -0.75)),
        ((0, 0.75 * FDA_QUARTER, 0.75 * FDA_QUARTER, 0), (0, 0, 0, 0)),
    ),
    # LMB: (2/t) max(0, 1 - |w|/t), t = 4 mean|w|: t = 4 and 2
    "lmb": (((-1, -1, 1, 1), (0.5, -0.5, 0.5, -0.5)), ((0.3125, 0.46875, 0.46875, 0.25), (0.375,) * 4)),
}
FILTERS |= dict.fromkeys(("lmb-k5", "lmb-global", "lmb-shift", "sign", "rsign", "lab"), FILTERS["lmb"])
FILTERS |= {
    # XNOR-Net, section 3.1: W_b = mean|w| sign(w), 1/n + mean|w| where |w| <= 1, n = 4
    "xnor": (((-1, -1, 1, 1), (0.5, -0.5, 0.5, -0.5)), ((0.25, 1.25, 1.25, 0.25), (0.75, 0.75, 0.75, 0.75))),
    # BTM, figure 3d: 4 - 8|w| where |w| < 1/2, with mean|w|
    "btm": (((-1, -1, 1, 1), (0.5, -0.5, 0.5, -0.5)), ((0, 2, 2, 0), (0, 0, 0, 0))),
    # E2FIF, its code: W_b = sign(w), gradient 1 everywhere
    "e2fif": (((-1, -1, 1, 1), (1, -1, 1, -1)), ((1, 1, 1, 1), (1, 1, 1, 1))),
}
FILTERS |= dict.fromkeys(("bbcu", "ebsr", "scales"), FILTERS["reactnet"])  # BBCU, its code: as ReActNet

# name -> binary activations and gradient of their sum
ROWS = {
    # BNN, eq. 1 and 4
    "bnn": ((-1, -1, 1, 1), (0, 1, 1, 1)),
    # DoReFa-Net, eq. 5 and 6 with k = 1: round(clip(x, 0, 1)), 1 inside
    "dorefa": ((0, 0, 0, 1), (0, 0, 1, 1)),
    # Bi-Real Net, eq. 6: 2 - 2|x|
    "bireal": ((-1, -1, 1, 1), (0, 1, 1.5, 0.5)),
    # ReActNet, eq. 1, with its threshold at the start
    "reactnet": ((-1, -1, 1, 1), (0, 1, 1.5, 0.5)),
    # AdaBin with alpha = 1, beta = 0
    "adabin": ((-1, -1, 1, 1), (0, 1, 1.5, 0.5)),
    # IR-Net, section 3.3: t = 0.001, k = 1000
    "irnet": ((-1, -1, 1, 1), (1, 1, 1, 1)),
    # FDA-BNN: ten cosines
    "fda": ((-1, -1, 1, 1), (0, 0, FDA_QUARTER, FDA_THREE_QUARTERS)),
    # XNOR-Net: as BNN
    "xnor": ((-1, -1, 1, 1), (0, 1, 1, 1)),
    # LAB at the start, d = x: (1 - tanh(x/2)^2) / 2
    "lab": ((-1, -1, 1, 1), tuple((1 - math.tanh(x / 2) ** 2) / 2 for x in ROW)),
    # ABC-Net: thresholds -1, 0, 1, each with 1/3 and with gradient 1 half a unit around it
    "abcnet": ((-1, -1 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 1 / 3, 1 / 3)),
    # LMB with the map's mean -1/4: u = (-5/4, -1/4, 1/2, 1), g = (0, 3/2, 1, 0), minus its mean 5/8
    "lmb-global": ((-1, -1, 1, 1), (-0.625, 0.875, 0.375, -0.625)),
}
ROWS |= dict.fromkeys(("btm", "e2fif", "bbcu", "ebsr", "scales"), ROWS["bireal"])


def assert_near(actual, expected):
    torch.testing.assert_close(actual.detach(), torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-5)


def middle_layer(name):
    net = nn.Sequential(conv(3, 4, 1), conv(4, 4, 1), conv(4, 3, 1))
    return lmb.binarize(net, recipe(name, ignore=["@first", "@last"]))[1]


def binary_weights(layer, weights=WEIGHTS):
    weight = torch.tensor(weights).view(-1, 4, 1, 1).requires_grad_()
    alpha = weight_scale(weight, layer.config.alpha).view(-1, 1, 1, 1)
    return weight, alpha * layer.binarize_weight(weight)


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name):
    weight, y = binary_weights(middle_layer(name))
    y.sum().backward()
    expected, gradient = FILTERS[name]
    torch.testing.assert_close(y.detach().flatten(1), torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(
        weight.grad.flatten(1), torch.tensor(gradient, dtype=torch.float32), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ROWS)
def test_rows(name):
    x = torch.tensor(ROW).view(1, 1, 1, -1).repeat(1, 4, 1, 1).requires_grad_()
    y = middle_layer(name).binarize_input(x)
    y.sum().backward()
    expected, gradient = ROWS[name]
    assert_near(y[0, 0, 0], expected)
    assert_near(x.grad[0, 0, 0], gradient)


@pytest.mark.parametrize("name", ["quick", "full"])
def test_controls_of_lmb_differ_from_it_in_one_thing(name):
    """Each of the suite's own lines changes one key of lmb's scheme, or adds a hook."""
    suite = Suite.load(name)
    assert suite.methods[0] == "all"
    methods = resolve_methods(suite.methods[1:], suite.place)
    assert {f"lmb-{key}" for key in ("k7", "k9", "detached", "w-ste", "w-ede", "w-fda")} < {m.name for m in methods}
    plain = recipe("lmb")["scheme"]
    for method in methods:
        scheme = method.recipe.to_dict()["scheme"]
        changed = [key for part in plain for key in plain[part] if scheme[part].get(key) != plain[part][key]]
        added = [key for part in plain for key in scheme[part] if key not in plain[part]]
        assert len(changed) + len(added) + len(method.hooks) == 1, method.name
        make_activation(conv(2, 2), method.recipe.scheme.activation.binarizer, method.recipe.scheme.activation.options)
        make_weight(conv(2, 2), method.recipe.scheme.weight.binarizer, method.recipe.scheme.weight.options)


def test_irnet_filter():
    """IR-Net, section 3.2: w_hat = (w - mean) / std = +-h, h = sqrt(3)/2, 2^round(log2 h) = 1; k t = 1 at the start.

    With G = (1, 0, 0, 0): dL/dw = (G - mean G - w_hat (G . w_hat) / 3) / std, std = 1 / (2 h).
    """
    weight, y = binary_weights(middle_layer("irnet"), WEIGHTS[1:])
    assert y.flatten().tolist() == [1, -1, 1, -1]
    y.backward(torch.tensor([1.0, 0, 0, 0]).view_as(y))
    assert_near(weight.grad.flatten(), (H, 0, -H, 0))


def test_irnet_weights_are_balanced_and_do_not_depend_on_shift_and_size():
    binarizer, weight = make_weight(conv(5, 7), "libra", {}), torch.randn(7, 5, 3, 3)
    bits = binarizer(weight)
    assert torch.equal(binarizer(weight * 0.01 + 3), bits)
    assert torch.equal(weight_scale(weight * 0.01 + 3, "bit_shift"), weight_scale(weight, "bit_shift"))
    scales = weight_scale(weight, "bit_shift")
    assert torch.equal(scales.log2(), scales.log2().round())


def test_irnet_gradients_sharpen():
    """EDE at the end: t = 10, k = 1: 10 (1 - tanh(10 x)^2)."""
    layer = middle_layer("irnet")
    set_progress(layer, 1.0)
    x = torch.tensor([0.0, 0.1, 1.0]).view(1, 1, 1, 3).requires_grad_()
    layer.binarize_input(x).sum().backward()
    assert_near(x.grad.flatten(), (10, 10 * (1 - math.tanh(1) ** 2), 0))


def test_adabin_filter():
    """AdaBin: beta = 0, alpha = 1/2, so W_b = w here, and at the start of EDE (g = 1) dW_b/dw is the identity."""
    weight, y = binary_weights(middle_layer("adabin"), WEIGHTS[1:])
    assert y.flatten().tolist() == list(WEIGHTS[1])
    y.backward(torch.tensor([1.0, 2, -1, 0.5]).view_as(y))
    assert_near(weight.grad.flatten(), (1, 2, -1, 0.5))


def test_adabin_filters_keep_mean_and_deviation_of_balanced_filters():
    weight = torch.randn(7, 5, 3, 3)
    y = make_weight(conv(5, 7), "adabin", {})(weight)
    for binary, real in zip(y, weight, strict=True):
        low, high = binary.unique().tolist()
        assert (low + high) / 2 == pytest.approx(real.mean().item(), abs=1e-5)
        assert (high - low) / 2 == pytest.approx(real.std(correction=0).item(), abs=1e-5)
        assert torch.equal(binary > binary.mean(), real >= real.mean())


def test_adabin_activation_learns_its_two_values():
    """alpha = 2, beta = 1, x = 2: u = 1/2, g = 1. y = 3, dy/dx = 1, dy/dalpha = 1 - u g = 1/2, dy/dbeta = 1 - g = 0."""
    binarizer = make_activation(conv(1, 1), "adabin", {})
    with torch.no_grad():
        binarizer.alpha.fill_(2.0)
        binarizer.beta.fill_(1.0)
    x = torch.tensor([2.0, -4.0]).view(1, 1, 1, 2).requires_grad_()
    y = binarizer(x)
    assert y.flatten().tolist() == [3.0, -1.0]
    y[..., 0].sum().backward()
    assert x.grad.flatten().tolist() == [1.0, 0.0]
    assert (binarizer.alpha.grad.item(), binarizer.beta.grad.item()) == (0.5, 0.0)
    y = binarizer(x)
    y[..., 1].sum().backward()  # u = -5/2, g = 0: -1 and 1 are added
    assert (binarizer.alpha.grad.item(), binarizer.beta.grad.item()) == (-0.5, 1.0)


def test_design_repeats_its_kernel_over_the_image():
    """DeSign, arXiv 2405.02220: the threshold at (y, x) is kernel[y mod m, x mod n], for every channel."""
    kernel = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    binarizer = make_activation(conv(2, 2), "design", {"kernel": kernel, "unit": "absolute"})
    for value in range(-1, 6):
        y = binarizer(torch.full((1, 2, 5, 4), float(value)))
        expected = [[1.0 if value >= kernel[i % 2][j % 3] else -1.0 for j in range(4)] for i in range(5)]
        assert y[0, 0].tolist() == y[0, 1].tolist() == expected


def test_design_in_deviations_does_not_depend_on_the_size_of_a_map():
    binarizer, x = make_activation(conv(3, 3), "design", {}), torch.randn(2, 3, 6, 7)
    assert torch.equal(binarizer(x * 8), binarizer(x))  # a power of two: no rounding
    row = torch.tensor(ROW).view(1, 1, 1, -1)
    # mean -1/4, deviation sqrt(23/32) = 0.848, thresholds 0.848 (-1.15, 0.32, -1.15, 0.32) = (-0.975, 0.271, ...)
    assert binarizer(row).flatten().tolist() == [-1, -1, 1, 1]
    assert binarizer(row + 0.75).flatten().tolist() == [1, -1, 1, 1]  # (-0.75, 0.25, 1, 1.5)
    assert binarizer.additions_per_value == 2


@pytest.mark.parametrize("kernel", [[], [[]], [[1.0], [1.0, 2.0]], [[float("nan")]], [[float("inf")]]], ids=str)
def test_design_refuses_kernels(kernel):
    with pytest.raises(lmb.LMBError, match=r"kernel: .* is not allowed\. Allowed: rows of equally many finite"):
        make_activation(conv(2, 2), "design", {"kernel": kernel})


def test_design_refuses_units():
    with pytest.raises(lmb.LMBError, match=r"unknown unit 'absolut'\. Did you mean 'absolute'\?"):
        make_activation(conv(2, 2), "design", {"unit": "absolut"})


def test_adabin_weights_do_not_pack():
    layer = lmb.binarize(nn.Conv2d(4, 4, 3, padding=1), recipe("adabin", activation={"binarizer": "sign"}, ignore=[]))
    with pytest.raises(lmb.LMBError, match=r"weight binarizer 'adabin' has no packed form: its values are not -1"):
        lmb.convert(layer)
