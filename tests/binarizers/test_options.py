# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/binarizers/{local_mean,rsign,weight_sign}: what is particular to each."""

import pytest
import torch
from helpers import assert_pm1, conv, recipe, small_net

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.binarizers import ActivationBinarizer, WeightBinarizer, make_activation, make_weight, set_progress
from lmb_quant.ops import SURROGATES, local_mean_sign, weight_scale


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9, 15, "global"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("normalize", ["none", "map"])
def test_local_mean_passes_its_options_on(window, detach, normalize):
    options = {"window": window, "surrogate": "tanh", "detach_threshold": detach, "normalize": normalize}
    binarizer = make_activation(conv(3, 3), "local_mean", options)
    assert binarizer.get_options() == {**options, "shift": "none", "gain": "none"}
    a, b = (torch.randn(1, 3, 8, 9, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    binarizer(a).sum().backward()
    arguments = {key: value for key, value in options.items() if key != "window"}
    local_mean_sign(b, window, **arguments).sum().backward()
    assert torch.equal(a.grad, b.grad)


def test_a_window_that_no_packed_layer_has_is_refused():
    with pytest.raises(LMBError, match=r"window: 257 is not allowed. Allowed: odd, 1 to 255, or 'global'"):
        make_activation(conv(3, 3), "local_mean", {"window": 257})
    assert make_activation(conv(3, 3), "local_mean", {"window": 255}).window == 255


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


def test_local_mean_with_a_gain_learns_one_number_per_channel():
    binarizer = make_activation(conv(6, 4, groups=2), "local_mean", {"gain": "channel"})
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        binarizer.threshold_gain.fill_(0)
        assert torch.equal(binarizer(x), torch.where(x >= 0, 1.0, -1.0))
        binarizer.threshold_gain.fill_(1)
        assert torch.equal(binarizer(x), local_mean_sign(x))
    (binarizer(x) * torch.randn_like(x)).sum().backward()
    assert binarizer.threshold_gain.grad.abs().min() > 0


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


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_only_the_adaptive_triangle_has_kappa(surrogate):
    options = make_weight(conv(2, 2), "sign", {"surrogate": surrogate}).get_options()
    assert options == {"surrogate": surrogate, "straight_through": "none"}


@pytest.mark.parametrize("surrogate", ["identity", "ste", "adaptive_triangle"])
@pytest.mark.parametrize("scale", ["channel_mean", "layer_mean"])
def test_straight_through_takes_the_scale_out_of_the_gradient(surrogate, scale, dtype):
    """d(alpha sign(w))/dw = g(w), and exactly the same bits."""
    weight = (torch.randn(3, 2, 3, 3) * 0.5).to(dtype)
    a, b = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    plain = make_weight(conv(2, 3), "sign", {"surrogate": surrogate})
    through = make_weight(conv(2, 3), "sign", {"surrogate": surrogate, "straight_through": scale})
    grad = torch.randn(3, 2, 3, 3).to(dtype)
    plain(a).backward(grad)
    y = through(b)
    assert torch.equal(y, plain(weight))
    (weight_scale(b, scale).view(-1, 1, 1, 1) * y).backward(grad)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(b.grad, a.grad, rtol=tolerance, atol=tolerance)


def test_straight_through_of_zeros_and_of_an_unknown_scale():
    through = make_weight(conv(2, 3), "sign", {"surrogate": "ste", "straight_through": "channel_mean"})
    weight = torch.zeros(3, 2, 3, 3, requires_grad=True)
    (weight_scale(weight, "channel_mean").view(-1, 1, 1, 1) * through(weight)).sum().backward()
    assert bool(weight.grad.isfinite().all())
    with pytest.raises(LMBError, match=r"unknown weight scale 'chanel_mean'\. Did you mean 'channel_mean'\?"):
        make_weight(conv(2, 2), "sign", {"straight_through": "chanel_mean"})


def test_progress_reaches_every_binarizer_and_stays_out_of_the_state():
    net = lmb.binarize(small_net(), recipe(activation={"surrogate": "ede"}, weight={"surrogate": "fda"}))
    set_progress(net, 0.5)
    binarizers = [part for part in net.modules() if isinstance(part, (ActivationBinarizer, WeightBinarizer))]
    assert [part.progress.item() for part in binarizers] == [0.5] * 4
    assert not any("progress" in key for key in net.state_dict())
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(LMBError, match=r"progress: .* is not allowed"):
            set_progress(net, wrong)


@pytest.mark.parametrize("name", ["sign", "rsign", "local_mean"])
def test_scheduled_surrogates_follow_the_progress(name):
    binarizer, grads = make_activation(conv(3, 3), name, {"surrogate": "ede"}), []
    for progress in (0.0, 1.0):
        set_progress(binarizer, progress)
        x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        (binarizer(x) * torch.arange(36.0).view(6, 6)).sum().backward()
        grads.append(x.grad)
    assert not torch.allclose(*grads)
