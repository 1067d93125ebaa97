# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/ops/local_mean: against NumPy in float64 (forward and gradient), and bit for bit against the reference."""

import numpy as np
import pytest
import torch
from helpers import assert_close, assert_pm1
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lmb_quant import LMBError
from lmb_quant.ops import global_mean, local_mean, local_mean_sign, window_sum
from lmb_quant.ops.local_mean import reference

WINDOWS = [1, 3, 5, 7, 15]
ALL_WINDOWS = [*WINDOWS, "global"]
SIZES = {
    "1x1": (1, 1, 1, 1),
    "1xN": (2, 1, 1, 9),
    "Nx1": (1, 3, 9, 1),
    "smaller-than-window": (1, 2, 2, 4),
    "odd": (2, 3, 7, 9),
    "even": (1, 5, 16, 12),
    "65-channels": (1, 65, 5, 4),
}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
windows = pytest.mark.parametrize("window", WINDOWS)
all_windows = pytest.mark.parametrize("window", ALL_WINDOWS)

DERIVATIVES = {
    "ste": lambda u: (np.abs(u) <= 1).astype(float),
    "identity": np.ones_like,
    "approx_sign": lambda u: np.maximum(0, 2 - 2 * np.abs(u)),
    "tanh": lambda u: 1 / np.cosh(np.clip(u, -300, 300)) ** 2,
}


def np_mean(x, window):
    """The local mean, by loops, in float64: (N, C, H, W) -> (N, C, H, W)."""
    x, (height, width) = x.astype(np.float64), x.shape[2:]
    if window == "global":
        return np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape)
    half, out = window // 2, np.empty_like(x)
    for i in range(height):
        for j in range(width):
            patch = x[:, :, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
            out[:, :, i, j] = patch.mean(axis=(2, 3))
    return out


def mean_matrix(height, width, window):
    """M, so that T = M A with A flattened: column j is the mean of the j-th unit image."""
    units = np.eye(height * width).reshape(height * width, 1, height, width)
    return np_mean(units, window).reshape(height * width, height * width).T


def np_gradient(x, grad, window, surrogate, detach, normalize):
    """dL/dA = G - M^T G, G = dL/dB g(u), written with the explicit matrix."""
    n, c, height, width = x.shape
    u = x.astype(np.float64) - np_mean(x, window)
    if normalize == "map":
        spread = 2 * np.abs(u).mean(axis=(2, 3), keepdims=True)
        u = np.divide(u, spread, out=np.zeros_like(u), where=spread > 0)
    through = (grad * DERIVATIVES[surrogate](u)).reshape(n, c, -1)
    if detach:
        return through.reshape(x.shape)
    return (through - through @ mean_matrix(height, width, window)).reshape(x.shape)


def undecided(x, window):
    """Where the distance to the mean is so near the tie margin that rounding may decide."""
    mean = np_mean(x, window)
    tau = 2.0**-18 * (np.abs(x) + np.abs(mean))
    return np.abs(x - mean + tau) <= 0.5 * tau


# ---- forward


@sizes
@windows
def test_window_sum_adds_in_frame_pixels(size, window):
    x = torch.randn(size)
    total, count = window_sum(x, window)
    ones = np.ones(size)
    height, width = size[2:]
    expected_count = np_mean(ones, window) * 0
    for i in range(height):
        for j in range(width):
            rows = min(height - 1, i + window // 2) - max(0, i - window // 2) + 1
            columns = min(width - 1, j + window // 2) - max(0, j - window // 2) + 1
            expected_count[:, :, i, j] = rows * columns
    assert count.shape == (height, width)
    assert np.array_equal(np.broadcast_to(count.numpy(), size), expected_count)
    assert_close(total, np_mean(x.numpy(), window) * expected_count)


@sizes
@all_windows
def test_local_mean_is_the_in_frame_mean(size, window):
    x = torch.randn(size) * 3 + 1
    expected = np_mean(x.numpy(), window)
    assert_close(local_mean(x, window).expand(size), expected)


def test_local_mean_is_differentiable():
    x = torch.randn(1, 1, 4, 5, requires_grad=True)
    grad = torch.randn(1, 1, 4, 5)
    local_mean(x, 3).backward(grad)
    assert_close(x.grad.view(-1), grad.numpy().ravel() @ mean_matrix(4, 5, 3))


def test_global_mean_does_not_drift_on_large_images():
    x = torch.full((1, 1, 3000, 1000), 0.1)
    assert global_mean(x).item() == x[0, 0, 0, 0].item()


@sizes
@all_windows
def test_sign_agrees_with_float64(size, window):
    x = torch.randn(size)
    expected = np.where(x.numpy() - np_mean(x.numpy(), window) >= 0, 1.0, -1.0)
    sure = ~undecided(x.numpy(), window) & (np.abs(x.numpy() - np_mean(x.numpy(), window)) > 1e-5)
    actual = local_mean_sign(x, window).numpy()
    assert_pm1(torch.from_numpy(actual))
    assert np.array_equal(actual[sure], expected[sure])
    assert sure.mean() > 0.9 or window == 1 or min(size[2:]) == 1


@sizes
@windows
@pytest.mark.parametrize("kind", ["random", "integers", "piecewise", "large-offset"])
def test_sign_equals_the_reference_bit_for_bit(size, window, kind):
    x = torch.randn(size)
    if kind == "integers":
        x = torch.randint(-2, 3, size).float()
    elif kind == "piecewise":
        x = torch.randint(0, 3, size) * 0.1
    elif kind == "large-offset":
        x = x * 1e-3 + 1e3
    assert torch.equal(local_mean_sign(x, window), reference.local_mean_sign(x, window))
    for fast, slow in zip(window_sum(x, window), reference.window_sum(x, window), strict=True):
        assert torch.equal(fast.expand_as(slow), slow)


def test_sign_layouts_give_the_same_bits():
    x = torch.randn(2, 6, 9, 11)
    expected = local_mean_sign(x, 5)
    last = local_mean_sign(x.to(memory_format=torch.channels_last), 5)
    assert torch.equal(last, expected)
    assert last.is_contiguous(memory_format=torch.channels_last)
    wide = torch.randn(2, 6, 9, 22)
    wide[..., ::2] = x
    assert torch.equal(local_mean_sign(wide[..., ::2], 5), expected)
    assert torch.equal(local_mean_sign(x.transpose(2, 3).contiguous().transpose(2, 3), 5), expected)
    assert torch.equal(local_mean_sign(x[:1, :1].expand(3, 4, 9, 11), 5), expected[:1, :1].expand(3, 4, 9, 11))


@all_windows
def test_sign_is_computed_in_float32_whatever_the_dtype(dtype, window):
    x = (torch.randn(2, 3, 9, 8) * 2 + 5).to(dtype)
    actual = local_mean_sign(x, window)
    assert actual.dtype == dtype
    assert torch.equal(actual.float(), local_mean_sign(x.float(), window))


@all_windows
def test_sign_is_computed_in_float32_under_autocast(window):
    x = torch.randn(1, 3, 9, 8) * 0.01 + 5  # bfloat16 has 3 digits: means computed in it would be noise
    expected = local_mean_sign(x, window)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(local_mean_sign(x, window), expected)
        assert local_mean(x, window).dtype == torch.float32


@all_windows
@pytest.mark.parametrize("offset", [0.0, 0.1, -0.1, 1e3, -1e3, 1e-6, 1 / 3, 1e-30, 1e30])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (1, 2, 1, 50), (1, 1, 33, 47)], ids=["1x1", "1x50", "33x47"])
def test_flat_images_are_ties(window, offset, size):
    assert bool((local_mean_sign(torch.full(size, offset), window) == 1).all())


@pytest.mark.parametrize("window", [31, 101, 255])
def test_flat_images_are_ties_for_large_windows(window):
    x = torch.rand(40, 1, 1, 1).expand(40, 1, 64, 70) * 100
    assert bool((local_mean_sign(x, window) == 1).all())


@windows
@pytest.mark.parametrize("offset", [0.1, 1e3, 1e-6])
def test_inside_of_flat_pieces_is_a_tie(window, offset):
    x = torch.zeros(1, 1, 48, 48)
    x[..., 24:] = 0.7
    x = x * offset + offset
    half = window // 2
    bits = local_mean_sign(x, window)
    assert bool((bits[..., : 24 - half] == 1).all())
    assert bool((bits[..., 24 + half :] == 1).all())
    assert bool((bits[..., 24 - half : 24] == -1).all())


@settings(max_examples=50, deadline=None)
@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=6), elements=st.integers(-64, 64)),
    window=st.sampled_from(ALL_WINDOWS),
    gain=st.sampled_from([0.25, 0.5, 2.0, 16.0, 1024.0]),
    offset=st.integers(-64, 64),
)
def test_sign_is_invariant_to_positive_affine_maps(x, window, gain, offset):
    x = torch.from_numpy(x)
    assert torch.equal(local_mean_sign(gain * x + offset, window), local_mean_sign(x, window))


@settings(max_examples=50, deadline=None)
@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=6),
        elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
    ),
    window=st.sampled_from(WINDOWS),
)
def test_sign_is_pm1_equals_reference_and_keeps_the_maximum(x, window):
    tensor = torch.from_numpy(x)
    bits = local_mean_sign(tensor, window)
    assert_pm1(bits)
    assert torch.equal(bits, reference.local_mean_sign(tensor, window))
    largest = x == x.max(axis=(2, 3), keepdims=True)  # never below the mean of its window
    assert (bits.numpy()[largest] == 1).all()


def test_window_one_is_plus_one_everywhere():
    assert bool((local_mean_sign(torch.randn(2, 3, 5, 5), 1) == 1).all())


def test_nan_gives_minus_one_in_its_windows_only():
    x = torch.ones(1, 1, 7, 7)
    x[..., 3, 3] = torch.nan
    expected = torch.ones(1, 1, 7, 7)
    expected[..., 2:5, 2:5] = -1
    assert torch.equal(local_mean_sign(x, 3), expected)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_infinity_gives_minus_one_itself_and_plus_one_around(value):
    x = torch.randn(1, 1, 7, 7)
    x[..., 3, 3] = value
    bits = local_mean_sign(x, 3)
    assert bits[0, 0, 3, 3] == -1
    around = bits[0, 0, 2:5, 2:5].flatten().tolist()
    del around[4]
    assert around == [1.0] * 8


@pytest.mark.parametrize("size", [(0, 3, 4, 4), (2, 0, 4, 4)], ids=["no-images", "no-channels"])
def test_empty_batches_pass(size):
    assert local_mean_sign(torch.zeros(size), 3).shape == size


# ---- gradients


@pytest.mark.parametrize("surrogate", DERIVATIVES)
@pytest.mark.parametrize("detach", [False, True], ids=["full", "detached"])
@pytest.mark.parametrize("normalize", ["none", "map"])
@pytest.mark.parametrize("window", [1, 3, 5, "global"])
def test_gradient_is_g_times_one_minus_transposed_mean(window, surrogate, detach, normalize):
    x = torch.randn(2, 2, 5, 6, requires_grad=True)
    grad = torch.randn(2, 2, 5, 6)
    bits = local_mean_sign(x, window, surrogate=surrogate, detach_threshold=detach, normalize=normalize)
    bits.backward(grad)
    expected = np_gradient(x.detach().numpy(), grad.numpy(), window, surrogate, detach, normalize)
    assert_close(x.grad, expected)


@sizes
@pytest.mark.parametrize("window", [3, 15, "global"])
def test_gradient_on_every_size(size, window):
    x = torch.randn(size, requires_grad=True)
    grad = torch.randn(size)
    local_mean_sign(x, window).backward(grad)
    assert_close(x.grad, np_gradient(x.detach().numpy(), grad.numpy(), window, "approx_sign", False, "none"))


@all_windows
def test_gradient_has_the_dtype_of_the_input(dtype, window):
    x = torch.randn(1, 3, 6, 5).to(dtype).requires_grad_()
    grad = torch.randn(1, 3, 6, 5).to(dtype)
    local_mean_sign(x, window).backward(grad)
    assert x.grad.dtype == dtype
    expected = np_gradient(x.detach().float().numpy(), grad.float().numpy(), window, "approx_sign", False, "none")
    assert_close(x.grad, expected, {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype])


def test_gradient_of_channels_last_equals_contiguous():
    x = torch.randn(2, 4, 6, 7)
    grad = torch.randn(2, 4, 6, 7)
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        leaf = x.clone(memory_format=memory_format).requires_grad_()
        local_mean_sign(leaf, 3).backward(grad)
        grads.append(leaf.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("normalize", ["none", "map"])
@pytest.mark.parametrize("gain", [0.0, 1e-30, 1e4, 1e30])
def test_gradient_is_finite(gain, normalize):
    x = (torch.randn(1, 2, 6, 6) * gain).requires_grad_()
    local_mean_sign(x, 3, normalize=normalize).backward(torch.randn(1, 2, 6, 6))
    assert bool(x.grad.isfinite().all())


def test_full_gradient_of_a_constant_shift_is_zero_away_from_the_border():
    x = torch.randn(1, 1, 9, 9, requires_grad=True)
    local_mean_sign(x, 3, surrogate="identity").sum().backward()
    inner = x.grad[..., 2:-2, 2:-2]
    assert_close(inner, np.zeros(inner.shape), 1e-6)


# ---- the shift


@all_windows
@sizes
def test_shift_moves_the_value_and_not_the_mean(size, window):
    x, shift = torch.randn(size), torch.randn(size[1]) * 0.3
    u = x.double().numpy() - shift.double().numpy()[:, None, None] - np_mean(x.numpy(), window)
    sure = np.abs(u) > 1e-4
    actual = local_mean_sign(x, window, shift=shift)
    assert np.array_equal(actual.numpy()[sure], np.where(u >= 0, 1.0, -1.0)[sure])
    if window != "global":
        assert torch.equal(actual, reference.local_mean_sign(x, window, shift))
    assert torch.equal(local_mean_sign(x, window, shift=torch.zeros(size[1])), local_mean_sign(x, window))


@pytest.mark.parametrize("detach", [False, True], ids=["full", "detached"])
@pytest.mark.parametrize("window", [3, "global"])
def test_gradients_with_a_shift(window, detach):
    x, shift = torch.randn(2, 3, 5, 6, requires_grad=True), (torch.randn(3) * 0.3).requires_grad_()
    grad = torch.randn(2, 3, 5, 6)
    local_mean_sign(x, window, shift=shift, detach_threshold=detach).backward(grad)
    a = x.detach().double().numpy()
    u = a - shift.detach().double().numpy()[:, None, None] - np_mean(a, window)
    through = grad.double().numpy() * DERIVATIVES["approx_sign"](u)
    assert_close(shift.grad, -through.sum(axis=(0, 2, 3)))
    flat = through.reshape(2, 3, -1)
    expected = flat if detach else flat - flat @ mean_matrix(5, 6, window)
    assert_close(x.grad, expected.reshape(a.shape))


# ---- the gain


@all_windows
@sizes
def test_gain_scales_the_mean(size, window):
    x, shift, gain = torch.randn(size), torch.randn(size[1]) * 0.3, torch.rand(size[1]) * 1.5
    bits = local_mean_sign(x, window, shift=shift, gain=gain)
    c, a = (v.double().numpy()[:, None, None] for v in (shift, gain))
    expected = x.double().numpy() - c - a * np_mean(x.numpy(), window)
    sure = np.abs(expected) > 1e-4
    assert np.array_equal(bits.numpy()[sure], np.where(expected >= 0, 1.0, -1.0)[sure])
    if window != "global":
        assert torch.equal(bits, reference.local_mean_sign(x, window, shift, gain))
    assert torch.equal(local_mean_sign(x, window, gain=torch.ones(size[1])), local_mean_sign(x, window))


@pytest.mark.parametrize("detach", [False, True], ids=["full", "detached"])
@pytest.mark.parametrize("window", [3, "global"])
def test_gradients_with_a_gain(window, detach):
    x, gain = torch.randn(2, 3, 5, 6, requires_grad=True), torch.rand(3, requires_grad=True)
    grad = torch.randn(2, 3, 5, 6)
    local_mean_sign(x, window, gain=gain, detach_threshold=detach).backward(grad)
    values, a = x.detach().double().numpy(), gain.detach().double().numpy()[:, None, None]
    mean = np_mean(values, window)
    through = grad.double().numpy() * DERIVATIVES["approx_sign"](values - a * mean)
    assert_close(gain.grad, -(through * mean).sum(axis=(0, 2, 3)))
    flat = through.reshape(2, 3, -1)
    expected = flat if detach else flat - (a * through).reshape(2, 3, -1) @ mean_matrix(5, 6, window)
    assert_close(x.grad, expected.reshape(values.shape))


# ---- compilation


def test_compiled_full_graph_gives_the_same_bits_and_gradients():
    def value_and_gradient(x, grad):
        bits = local_mean_sign(x, 3)
        return bits, torch.autograd.grad(bits, x, grad)[0]

    def forward(x):
        return local_mean_sign(x, 3)

    compiled = torch.compile(forward, fullgraph=True)
    x, grad = torch.randn(1, 4, 12, 10, requires_grad=True), torch.randn(1, 4, 12, 10)
    bits, expected = value_and_gradient(x, grad)
    actual = compiled(x)
    assert torch.equal(actual, bits)
    assert_close(torch.autograd.grad(actual, x, grad)[0], expected.double().numpy(), 1e-6)
    flat = torch.full((1, 4, 12, 10), 0.1)
    assert torch.equal(compiled(flat), torch.ones_like(flat))


# ---- errors


@pytest.mark.parametrize("window", [0, 2, -3, 3.0, "3", "Global", True, None, [3]], ids=repr)
@pytest.mark.parametrize("function", [local_mean, local_mean_sign])
def test_window_must_be_odd_or_global(function, window):
    with pytest.raises(LMBError, match=r"window: .* is not allowed\. Allowed: an odd number of pixels .* or 'global'"):
        function(torch.zeros(1, 1, 3, 3), window)


def test_unknown_options_name_the_nearest():
    x = torch.zeros(1, 1, 3, 3)
    with pytest.raises(LMBError, match=r"unknown surrogate 'aprox_sign'\. Did you mean 'approx_sign'\?"):
        local_mean_sign(x, 3, surrogate="aprox_sign")
    with pytest.raises(LMBError, match=r"unknown normalize 'mapp'\. Did you mean 'map'\? Allowed: map, none\."):
        local_mean_sign(x, 3, normalize="mapp")
