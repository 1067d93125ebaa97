# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite: hosts' forms of a network that one cell trained, their calibration and their keys."""

from __future__ import annotations

import copy
import importlib.util
import io

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from lmb_quant import convert, load, save, set_real_arithmetic
from lmb_quant.archs import LMBSRResNet
from lmb_quant.bench.suite.measure.calibration import calibration_images
from lmb_quant.bench.suite.measure.figures import count, count_host_form
from lmb_quant.bench.suite.measure.hosts import UnsupportedError, host_form
from lmb_quant.bench.suite.plan.schemes import ENGINE_INT8, HOSTS, QAT, host_settings
from lmb_quant.bench.suite.run.run import run
from lmb_quant.bench.suite.run.worker import DONE, do_cell
from lmb_quant.integrations.basicsr.networks import build
from lmb_quant.stages import forward

if importlib.util.find_spec("torchao") is None:
    pytest.skip("needs torchao", allow_module_level=True)


def network():
    torch.manual_seed(0)
    net = LMBSRResNet(num_feat=8, num_block=1, upscale=2, recipe=None).eval().requires_grad_(False)
    torch.nn.init.normal_(net.tail[0].weight, std=0.05)
    return net


def form(scheme):
    return host_form(host_settings(scheme), network(), lambda: [torch.rand(1, 3, 12, 14)])


def test_hosts_share_the_float_training_and_have_keys_of_their_own(suite, job):
    suite["methods"] = ["float", "hosts"]
    cells = {cell.method: cell for cell in job(suite).cells}
    floating = cells.pop("float")
    qat = cells.pop(QAT)
    assert {cell.training_key for cell in cells.values()} == {floating.training_key}
    assert qat.training_key != floating.training_key
    assert qat.network_g["arch"] == floating.network_g
    assert len({cell.key for cell in (floating, qat, *cells.values())}) == len(HOSTS) + 1


def test_a_cell_that_only_evaluates_comes_after_the_one_that_trains(suite, job):
    suite |= {"methods": ["int8-pt2e", "lmb", "float"], "seeds": [0, 1]}
    names = [cell.name for cell in job(suite).missing]
    assert names == [f"net/{m}/x2/seed{s}" for s in (0, 1) for m in ("int8-pt2e", "lmb")] + [
        "net/float/x2/seed0", "net/float/x2/seed1",
    ]  # fmt: skip


def test_calibration_is_the_same_each_time(suite, job):
    sets = job(suite).cells[0].train
    first, again = (calibration_images(sets, 2, 5, 12) for _ in range(2))
    assert [tuple(patch.shape) for patch in first] == [(1, 3, 12, 12), (1, 3, 12, 12)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert 0 <= min(patch.min() for patch in first) < max(patch.max() for patch in first) <= 1
    assert len(calibration_images(sets, 2, 1, 12)) == 1
    assert {tuple(patch.shape) for patch in calibration_images(sets, 2, 5, 99)} == {(1, 3, 20, 26), (1, 3, 15, 15)}


def test_counts_of_each_form():
    net = network()
    whole = count(net, 2)
    int8 = count_host_form(form("int8-pt2e"), net, 2)
    assert int8["int8_macs"] == whole["float_ops"]
    assert int8["float_macs"] == 0
    assert int8["ops"] == whole["float_ops"] / 8
    assert int8["params"] == whole["params"] / 4
    ends = count_host_form(form("int8-pt2e-ends-float"), net, 2)
    assert ends["int8_macs"] == 360 * 640 * 9 * 8 * 8 * 2
    assert ends["float_macs"] + ends["int8_macs"] == whole["float_ops"]
    half = count_host_form(form("bf16"), net, 2)
    assert (half["ops"], half["int8_macs"], half["params"]) == (whole["ops"], 0, whole["params"] / 2)
    four = count_host_form(form("int4-weight"), net, 2)
    assert (four["ops"], four["params"]) == (whole["ops"], whole["params"] / 8)
    assert four["storage_note"] == "torchao stores each 4-bit value in a byte"
    weights = round(whole["params"])
    assert weights < int8["bytes"] < ends["bytes"] < whole["bytes"]
    assert 2 * weights < half["bytes"] < whole["bytes"]


def test_bf16_reads_and_writes_float32():
    image = torch.rand(1, 3, 9, 12)
    output = form("bf16").network(image)
    assert output.dtype == torch.float32
    error = (output - network()(image)).abs().max()
    assert 0 < error < 0.05


def test_what_a_host_cannot_run_says_why():
    with pytest.raises(UnsupportedError, match="leaves the weight of 'conv_first' as it is"):
        form("int4-packed")


def test_cells_of_a_finished_training_only_evaluate(suite, job):
    suite["methods"] = ["float", "bf16", "int8-pt2e", "int4-packed"]
    ran = job(suite)
    path = ran.store.weights(ran.cells[0])
    path.parent.mkdir(parents=True)
    torch.save({"params": network().state_dict()}, path)
    assert [do_cell(cell, ran.store) for cell in ran.cells] == [DONE] * 4
    floating, half, static, packed = (ran.store.result(cell) for cell in ran.cells)
    figures = [each["scores"]["c"]["psnr"] for each in (floating, half, static)]
    assert 0 < np.ptp(figures) < 1
    assert static["figures"]["int8_macs"] == floating["figures"]["float_ops"]
    assert "scores" not in packed
    assert "as it is" in packed["unsupported"]
    console = Console(file=io.StringIO(), width=200)
    assert run(ran, console, latency=False) == 0
    assert "int4-packed" not in console.file.getvalue()  # it has no figures to show


@pytest.mark.train
def test_int8_is_trained_by_a_run(suite, job):
    suite["methods"] = [QAT, "int4-packed"]
    ran = job(suite, QAT)
    console = Console(file=io.StringIO(), width=200)
    assert run(ran, console, latency=False) == 0, console.file.getvalue()
    result = ran.store.result(ran.selected[0])
    assert result["figures"]["int8_macs"] == result["figures"]["float_ops"]
    assert [entry["iter"] for entry in result["curve"]] == [3, 6]
    assert result["scores"]["c"]["psnr"] > 20
    assert result["figures"]["bytes"] < result["figures"]["float_bytes"] / 2


HYBRID = {"type": "LMBHybridNet", "num_feat": 8, "num_block": 1}
INT8_RECIPE = {"name": "lmb-hybrid-int8", "recipe": "lmb-hybrid", "arithmetic": "int8"}


def test_the_engine_in_8_bits_shares_training_and_rate_of_what_it_is_made_of(suite, job):
    suite["networks"] = {
        "net": {
            "arch": HYBRID,
            "methods": ["float", "engine-int8", "lmb-hybrid", INT8_RECIPE],
            "rates": {"float": 3e-3, "lmb-hybrid": 2e-3},
        }
    }
    floating, engine, hybrid, hybrid_int8 = job(suite).cells
    assert floating.training_key == engine.training_key != hybrid.training_key == hybrid_int8.training_key
    assert [cell.training.optimizer["lr"] for cell in (engine, hybrid_int8)] == [3e-3, 2e-3]
    assert len({cell.key for cell in (floating, engine, hybrid, hybrid_int8)}) == 4
    assert len({cell.latency_key for cell in (floating, engine, hybrid, hybrid_int8)}) == 4

    suite["networks"]["net"]["methods"][-1] |= {"activation": {"window": 5}}
    assert job(suite).cells[-1].training.optimizer["lr"] == 1e-3  # another recipe, so none of the rates is its own


def hybrid(recipe):
    torch.manual_seed(0)
    net = build({**HYBRID, "upscale": 2, "recipe": recipe}).eval().requires_grad_(False)
    torch.nn.init.normal_(net.tail[0].weight, std=0.05)
    return net


@pytest.mark.parametrize("recipe", [None, "lmb-hybrid"])
def test_the_engine_in_8_bits_is_what_upscale_runs_and_its_file_is_smaller(recipe, tmp_path):
    net, image = hybrid(recipe), torch.rand(1, 3, 9, 12)
    before = copy.deepcopy(net.state_dict())
    whole, int8 = count(net, 2), host_form(host_settings(ENGINE_INT8), net, list)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with torch.no_grad():
        error = (int8.network(image) - net(image)).norm() / net(image).norm()
    assert 0 < error < 0.05
    figures = count_host_form(int8, net, 2)
    used = net if recipe is None else convert(net)
    weights = sum(la.weight.numel() for la in used.modules() if type(la) is nn.Conv2d and la.kernel_size == (1, 1))
    assert figures["int8_macs"] == weights * 360 * 640
    assert figures["float_macs"] + figures["int8_macs"] == whole["float_macs"]
    assert figures["ops"] == whole["ops"] - figures["int8_macs"] * 7 / 8
    assert figures["bytes"] < whole["bytes"]
    assert figures["params"] < whole["params"]
    if recipe is not None:
        path = tmp_path / "net.safetensors"
        save(used, path, real_weights="int8")
        assert figures["bytes"] == path.stat().st_size
        loaded = load(path)
        assert set_real_arithmetic(loaded, "int8")
        assert torch.equal(forward(loaded, image), int8.network(image))


def test_a_network_without_pointwise_convolutions_has_no_form_in_8_bits():
    with pytest.raises(UnsupportedError, match="the network has no real pointwise convolution"):
        form(ENGINE_INT8)
