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
    "triangle_half": {-1.0: 0, -0.5: 0, -0.25: 2, 0.0: 4, 0.125: 3, 0.5: 0, 1e4: 0},
    "tanh": {0.0: 1, math.atanh(0.5): 0.75, -math.atanh(0.5): 0.75, 1e4: 0},
    # At the start: t = 1/1000, k = 1000
    "ede": {0.0: 1, 1e3 * math.atanh(0.5): 0.75, -1e3 * math.atanh(0.5): 0.75, 1e4: 0},
    # At the start: n = 9, ten cosines; their sum is sin(10 pi u) / sin(pi u / 2), at 0 twenty
    "fda": {
        0.0: 20,
        0.05: 1 / math.sin(math.pi / 40),
        -0.05: 1 / math.sin(math.pi / 40),
        0.1: 0,
        0.15: -1 / math.sin(3 * math.pi / 40),
        0.5: 0,
        1.0: 0,
        1.5: 0,
        -1e4: 0,
    },
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
    """The area is the sign's jump, 2. The identity's is not finite; EDE's is 2 k, k = 1 in the later half."""
    u = torch.linspace(-8, 8, 160001, dtype=torch.float64)
    for name in ("ste", "approx_sign", "triangle_half", "tanh"):
        assert torch.trapezoid(surrogate_derivative(u, name), u).item() == pytest.approx(2, abs=1e-3)
    for progress in (0.75, 0.9, 1.0):
        assert torch.trapezoid(surrogate_derivative(u, "ede", progress), u).item() == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize(
    ("progress", "t", "k"), [(0, 0.001, 1000), (0.25, 0.01, 100), (0.5, 0.1, 10), (0.75, 1, 1), (1, 10, 1)]
)
def test_ede_schedule(progress, t, k):
    """IR-Net, arXiv 1909.10788, section 3.3: t = T_min (T_max / T_min)^(i/N), 1e-3 to 1e1, k = max(1/t, 1)."""
    u = torch.linspace(-3, 3, 13)
    expected = k * t * (1 - np.tanh(t * u.double().numpy()) ** 2)
    assert_close(surrogate_derivative(u, "ede", progress), expected)
    assert_close(surrogate_derivative(u, "ede", torch.tensor(progress)), expected)


@pytest.mark.parametrize(("progress", "n"), [(0.0, 9), (0.5, 14), (1.0, 18), (2 / 9, 11)])
def test_fda_is_the_series_term_by_term(progress, n):
    """FDA-BNN, arXiv 2103.00841: (4 / pi) sum_{i = 0..n} sin((2 i + 1) w t) / (2 i + 1), w = 2 pi / T, T = 4."""
    u, w = np.linspace(-0.99, 0.99, 199), 2 * np.pi / 4
    derivative = sum(4 * w / np.pi * np.cos((2 * i + 1) * w * u) for i in range(n + 1))
    actual = surrogate_derivative(torch.from_numpy(u).float(), "fda", torch.tensor(progress))
    assert_close(actual, derivative, 1e-4)
    rise = 2 * 4 / np.pi * sum((-1) ** i / (2 * i + 1) for i in range(n + 1))  # of the series, from -1 to 1
    fine = torch.linspace(-1, 1, 20001)
    assert torch.trapezoid(surrogate_derivative(fine, "fda", progress), fine).item() == pytest.approx(rise, abs=1e-3)


def test_surrogate_sign_passes_the_progress_on():
    for name in ("ede", "fda"):
        u = torch.linspace(-0.9, 0.9, 19).requires_grad_()
        surrogate_sign(u, name, torch.tensor(0.8)).sum().backward()
        assert torch.equal(u.grad, surrogate_derivative(u.detach(), name, 0.8))
        assert not torch.equal(u.grad, surrogate_derivative(u.detach(), name))


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
