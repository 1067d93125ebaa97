# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/ops/sign and surrogates: values and derivatives against formulas, at the kinks too."""

import math

import numpy as np
import pytest
import torch
from helpers import assert_close, assert_pm1
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lmb_quant import LMBError
from lmb_quant.ops import SURROGATES, check_surrogate, sign_pm1, surrogate_derivative, surrogate_sign, triangle_width
from lmb_quant.ops.sign import triangle_sign

# u -> g(u), by hand
KINKS = {
    "ste": {-1.001: 0, -1.0: 1, 0.0: 1, 1.0: 1, 1.001: 0, 1e4: 0},
    "identity": {-1e4: 1, 0.0: 1, 3.0: 1},
    "approx_sign": {-1.5: 0, -1.0: 0, -0.5: 1, -0.25: 1.5, 0.0: 2, 0.25: 1.5, 1.0: 0, 1e4: 0},
    "tanh": {0.0: 1, math.atanh(0.5): 0.75, -math.atanh(0.5): 0.75, 1e4: 0},
}


def test_every_surrogate_is_tested():
    assert set(KINKS) == set(SURROGATES)


def test_sign_of_zeros_nan_and_infinity(dtype):
    x = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-7, -1e-7], dtype=dtype)
    expected = torch.tensor([1, 1, 1, -1, -1, 1, -1], dtype=dtype)
    assert torch.equal(sign_pm1(x), expected)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_sign_is_odd_apart_from_zero(x):
    bits, flipped = sign_pm1(torch.from_numpy(x)).numpy(), sign_pm1(torch.from_numpy(-x)).numpy()
    assert (np.abs(bits) == 1).all()
    assert np.array_equal(bits[x != 0], -flipped[x != 0])
    assert (bits[x == 0] == 1).all()


@pytest.mark.parametrize("name", KINKS)
def test_surrogate_derivative_at_the_kinks(name, dtype):
    u = torch.tensor(list(KINKS[name])).to(dtype)
    exact = dtype == torch.float32
    wanted = [value for key, value in KINKS[name].items() if exact or abs(key) != 1.001]
    u = u if exact else u[[abs(key) != 1.001 for key in KINKS[name]]]
    actual = surrogate_derivative(u, name)
    assert actual.dtype == dtype
    assert_close(actual, np.array(wanted, float), 1e-6 if exact else 1e-2)


@pytest.mark.parametrize("name", KINKS)
def test_surrogate_sign_multiplies_the_gradient(name, dtype):
    u = (torch.randn(4, 5) * 1.5).to(dtype).requires_grad_()
    grad = torch.randn(4, 5).to(dtype)
    y = surrogate_sign(u, name)
    assert_pm1(y)
    assert y.dtype == dtype
    y.backward(grad)
    assert torch.equal(u.grad, grad * surrogate_derivative(u.detach(), name))


def test_derivatives_integrate_to_the_step_they_replace():
    """ste, approx_sign: the area is the sign's jump, 2; so is tanh's. The identity's is not finite."""
    u = torch.linspace(-8, 8, 160001, dtype=torch.float64)
    for name in ("ste", "approx_sign", "tanh"):
        assert torch.trapezoid(surrogate_derivative(u, name), u).item() == pytest.approx(2, abs=1e-3)


def test_triangle_sign_gradient():
    weight = torch.randn(3, 2, 3, 3, requires_grad=True)
    width = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)
    grad = torch.randn(3, 2, 3, 3)
    y = triangle_sign(weight, width)
    assert torch.equal(y, sign_pm1(weight.detach()))
    y.backward(grad)
    w, t = weight.detach().double().numpy(), width.double().numpy()
    assert_close(weight.grad, grad.double().numpy() * 2 / t * np.maximum(0, 1 - np.abs(w) / t))


def test_triangle_at_its_peak_and_edges():
    weight = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5]).view(1, 5, 1, 1).requires_grad_()
    triangle_sign(weight, torch.ones(1, 1, 1, 1)).sum().backward()
    assert weight.grad.flatten().tolist() == [2.0, 0.0, 0.0, 0.0, 1.0]


def test_no_gradient_reaches_the_width():
    weight = torch.randn(2, 2, 1, 1, requires_grad=True)
    width = torch.ones(2, 1, 1, 1, requires_grad=True)
    triangle_sign(weight, width).sum().backward()
    assert width.grad is None


@pytest.mark.parametrize("kappa", [0.5, 4.0, torch.tensor(4.0)], ids=["0.5", "4", "tensor"])
def test_triangle_width_follows_each_filter(kappa):
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([0.01, 0.1, 1, 10]).view(4, 1, 1, 1)
    expected = float(kappa) * np.abs(weight.double().numpy()).mean(axis=(1, 2, 3), keepdims=True)
    assert_close(triangle_width(weight, kappa) / torch.from_numpy(expected), np.ones((4, 1, 1, 1)))


@pytest.mark.parametrize("grad", [1.0, 1e3])
def test_filter_of_zeros_keeps_a_finite_gradient(dtype, grad):
    weight = torch.zeros(2, 3, 3, 3, dtype=dtype, requires_grad=True)
    triangle_sign(weight, triangle_width(weight, 4.0)).backward(torch.full((2, 3, 3, 3), grad, dtype=dtype) / 1e3)
    assert bool(weight.grad.isfinite().all())


@pytest.mark.parametrize(("name", "hint"), [("stee", "'ste'"), ("approxsign", "'approx_sign'")])
def test_unknown_surrogate_names_the_nearest(name, hint):
    for function in (
        check_surrogate,
        lambda n: surrogate_derivative(torch.ones(1), n),
        lambda n: surrogate_sign(torch.ones(1), n),
    ):
        with pytest.raises(LMBError, match=rf"unknown surrogate '{name}'\. Did you mean {hint}\? Allowed: "):
            function(name)
