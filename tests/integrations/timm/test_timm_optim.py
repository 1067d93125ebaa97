# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/timm/optim.py."""

import copy

import pytest
import torch
from helpers import run_python
from torch import nn

from lmb_quant import LMBError
from lmb_quant.integrations.timm import make_optimizer, make_scheduler


def rates(scheduler, optimizer, steps):
    result = []
    for step in steps:
        scheduler.step_update(step)
        result.append(optimizer.param_groups[0]["lr"])
    return result


@pytest.mark.parametrize("name", ["adamw", "lion", "adan", "adamp", "nadamw", "lamb", "sgd"])
def test_an_optimizer_by_name_lowers_a_loss(name):
    net, x = nn.Linear(4, 1), torch.randn(16, 4)
    optimizer = make_optimizer(name, net.parameters(), lr=0.01, weight_decay=0.0)
    losses = []
    for _ in range(60):
        loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_groups_keep_what_they_set():
    weight, bias = nn.Linear(3, 3).parameters()
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0, "lr": 1e-4}]
    optimizer = make_optimizer("lion", iter(groups), lr=1e-3, betas=(0.8, 0.9))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-4]
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamww", {}, r"unknown timm optimizer 'adamww'. Did you mean 'adamw'"),
        ("timm/adamw", {}, r"unknown timm optimizer 'timm/adamw'"),
        ("adamw", {"beta": (0.9, 0.9)}, r"timm optimizer 'adamw': unknown key 'beta'. Did you mean 'betas'"),
        ("adamw", {"weight_decay": -1.0}, r"timm optimizer 'adamw': .*'weight_decay': -1.0.* is not allowed"),
        ("adamw", {"betas": 3}, r"'betas': 3.* is not allowed"),
    ],
)
def test_wrong_optimizer(name, options, message):
    with pytest.raises(LMBError, match=message):
        make_optimizer(name, nn.Linear(3, 3).parameters(), lr=1e-3, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_an_optimizer_that_needs_a_gpu():
    with pytest.raises(LMBError, match=r"timm optimizer 'fusedadam': CUDA required"):
        make_optimizer("fusedadam", nn.Linear(3, 3).parameters(), lr=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cosine", {"t_initial": 100}, [1.0, 0.5, 0.0]),
        ("cosine", {"t_initial": 100, "lr_min": 0.2}, [1.0, 0.6, 0.2]),
        ("step", {"decay_t": 50, "decay_rate": 0.1}, [1.0, 0.1, 0.01]),
        ("multistep", {"decay_t": [30, 80], "decay_rate": 0.5}, [1.0, 0.5, 0.25]),
        ("poly", {"t_initial": 100, "power": 1.0}, [1.0, 0.5, 0.0]),
    ],
)
def test_a_scheduler_counts_iterations(name, options, expected):
    optimizer = make_optimizer("sgd", nn.Linear(3, 3).parameters(), lr=1.0)
    scheduler = make_scheduler(name, optimizer, **options)
    assert rates(scheduler, optimizer, [0, 50, 100]) == pytest.approx(expected, abs=1e-6)


def test_warm_up():
    optimizer = make_optimizer("sgd", nn.Linear(3, 3).parameters(), lr=1.0)
    scheduler = make_scheduler("cosine", optimizer, t_initial=100, warmup_t=10, warmup_lr_init=0.0)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert rates(scheduler, optimizer, [1, 5, 9]) == pytest.approx([0.1, 0.5, 0.9])


def test_tanh_falls():
    optimizer = make_optimizer("sgd", nn.Linear(3, 3).parameters(), lr=1.0)
    first, middle, last = rates(make_scheduler("tanh", optimizer, t_initial=100), optimizer, [0, 60, 99])
    assert first > middle > last


def test_a_loaded_scheduler_goes_on():
    def make():
        optimizer = make_optimizer("sgd", nn.Linear(3, 3).parameters(), lr=1.0)
        return make_scheduler("cosine", optimizer, t_initial=100, noise_range_t=[20, 90]), optimizer

    scheduler, optimizer = make()
    rates(scheduler, optimizer, range(40))
    again, other = make()
    again.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    assert rates(again, other, range(40, 99)) == rates(scheduler, optimizer, range(40, 99))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosinus", {}, r"unknown timm scheduler 'cosinus'. Did you mean 'cosine'"),
        ("plateau", {}, r"unknown timm scheduler 'plateau'"),
        ("cosine", {}, r"timm scheduler 'cosine': the key 't_initial' is missing"),
        ("cosine", {"t_inital": 3}, r"unknown key 't_inital'. Did you mean 't_initial'"),
        ("cosine", {"t_initial": 3, "t_in_epochs": True}, r"unknown key 't_in_epochs'"),
        ("cosine", {"t_initial": 0}, r"'t_initial': 0.* is not allowed"),
    ],
)
def test_wrong_scheduler(name, options, message):
    optimizer = make_optimizer("sgd", nn.Linear(3, 3).parameters(), lr=1.0)
    with pytest.raises(LMBError, match=message):
        make_scheduler(name, optimizer, **options)


def test_without_timm_the_error_says_how_to_install_it(tmp_path):
    (tmp_path / "timm.py").write_text("raise ImportError('No module named timm')")
    code = """
import sys, lmb_quant
assert "timm" not in sys.modules
try:
    import lmb_quant.integrations.timm
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = run_python(code, path=[tmp_path]).strip()
    assert said.startswith("MissingTimmError timm cannot be imported: No module named timm")
    assert said.endswith("To install it: pip install 'lmb-quant[timm]'")
