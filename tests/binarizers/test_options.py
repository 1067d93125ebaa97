# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/binarizers/{local_mean,rsign,weight_sign}: what is particular to each."""

import pytest
import torch
from helpers import assert_pm1, conv

from lmb_quant import LMBError
from lmb_quant.binarizers import make_activation, make_weight
from lmb_quant.ops import local_mean_sign


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9, 15, "global"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("normalize", ["none", "map"])
def test_local_mean_passes_its_options_on(window, detach, normalize):
    options = {"window": window, "surrogate": "tanh", "detach_threshold": detach, "normalize": normalize}
    binarizer = make_activation(conv(3, 3), "local_mean", options)
    assert binarizer.get_options() == {**options, "shift": "none"}
    a, b = (torch.randn(1, 3, 8, 9, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    binarizer(a).sum().backward()
    arguments = {key: value for key, value in options.items() if key != "window"}
    local_mean_sign(b, window, **arguments).sum().backward()
    assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize(("window", "additions"), [(1, 0), (3, 4), (5, 8), (7, 12), ("global", 1)])
def test_local_mean_counts_its_additions(window, additions):
    assert make_activation(conv(3, 3), "local_mean", {"window": window}).additions_per_value == additions


def test_local_mean_with_a_shift_learns_one_number_per_channel(dtype):
    binarizer = make_activation(conv(6, 4, groups=2).to(dtype), "local_mean", {"shift": "channel"}).to(dtype)
    assert binarizer.get_options()["shift"] == "channel"
    assert binarizer.threshold_shift.shape == (6,)
    x = torch.randn(2, 6, 5, 5).to(dtype)
    assert torch.equal(binarizer(x), local_mean_sign(x))  # 0 at first
    with torch.no_grad():
        binarizer.threshold_shift.fill_(100.0)
    y = binarizer(x)
    assert bool((y == -1).all())
    (binarizer(x) * torch.randn_like(x)).sum().backward()
    assert binarizer.threshold_shift.grad.dtype == dtype
    assert make_activation(conv(3, 3), "local_mean", {"shift": "channel"}).additions_per_value == 5


def test_unknown_shift_names_the_nearest():
    with pytest.raises(LMBError, match=r"unknown shift 'chanel'\. Did you mean 'channel'\? Allowed: channel, none"):
        make_activation(conv(3, 3), "local_mean", {"shift": "chanel"})


@pytest.mark.parametrize("window", [0, 2, -1, 3.0, "3", True, [3], None], ids=repr)
def test_local_mean_refuses_windows(window):
    with pytest.raises(LMBError, match=r"window: .* is not allowed"):
        make_activation(conv(3, 3), "local_mean", {"window": window})


def test_rsign_learns_one_threshold_per_channel():
    binarizer = make_activation(conv(3, 5), "rsign", {})
    assert binarizer.threshold.shape == (3,)
    with torch.no_grad():
        binarizer.threshold.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    x = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    y = binarizer(x)
    assert y[0, :, 0, 0].tolist() == [1.0, 1.0, -1.0]
    y.sum().backward()
    # u = (1.5, 0.5, -0.5), g = (0, 1, 1): dy/dt = -g, four pixels
    assert binarizer.threshold.grad.tolist() == [0.0, -4.0, -4.0]
    assert x.grad[0, :, 0, 0].tolist() == [0.0, 1.0, 1.0]


def test_rsign_of_a_grouped_convolution_has_all_channels():
    binarizer = make_activation(conv(6, 6, groups=3), "rsign", {})
    assert_pm1(binarizer(torch.randn(1, 6, 4, 4)))


def test_rsign_takes_dtype_and_device_of_the_convolution(dtype):
    assert make_activation(conv(2, 2).to(dtype), "rsign", {}).threshold.dtype == dtype


@pytest.mark.parametrize("kappa", [0, -1.0, float("nan"), float("inf"), "1e-3", True], ids=repr)
def test_kappa_must_be_a_positive_number(kappa):
    with pytest.raises(LMBError, match=r"kappa: .* is not allowed"):
        make_weight(conv(2, 2), "sign", {"kappa": kappa})


def test_kappa_narrows_the_triangle_and_stays_out_of_the_state():
    binarizer = make_weight(conv(2, 2), "sign", {"kappa": 2})
    assert "kappa" not in binarizer.state_dict()
    weight = torch.tensor([-1.0, -0.5, 0.5, 2.0]).view(1, 4, 1, 1).requires_grad_()  # mean|w| = 1
    binarizer(weight).sum().backward()
    assert weight.grad.flatten().tolist() == [0.5, 0.75, 0.75, 0.0]  # t = 2: (2/t) (1 - |w|/t)
    weight.grad = None
    binarizer.kappa.fill_(1.0)
    binarizer(weight).sum().backward()
    assert weight.grad.flatten().tolist() == [0.0, 1.0, 1.0, 0.0]
    assert binarizer.get_options()["kappa"] == 2


@pytest.mark.parametrize("surrogate", ["ste", "identity", "approx_sign", "tanh"])
def test_fixed_weight_surrogates_have_no_kappa(surrogate):
    assert make_weight(conv(2, 2), "sign", {"surrogate": surrogate}).get_options() == {"surrogate": surrogate}
