# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/measure/{latency,timing}.py: one measurement for each network and method."""

from __future__ import annotations

import pytest
import torch

from lmb_quant.bench import compiled
from lmb_quant.bench.suite.environment import machine_key
from lmb_quant.bench.suite.measure import timing
from lmb_quant.bench.suite.measure.latency import measure, to_measure
from lmb_quant.bench.suite.plan.cell import lr_size
from lmb_quant.integrations.basicsr.networks import build


def finish(job):
    """Cells with networks that did not learn anything, and results without figures."""
    for cell in job.cells:
        torch.manual_seed(cell.seed)
        path = job.store.weights(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        net = build(dict(cell.network_g))
        torch.nn.init.normal_([p for p in net.parameters() if p.ndim == 4][-1], std=0.05)
        torch.save({"params": net.state_dict()}, path)
        job.store.write_result(cell, {"scores": {}})
    return job


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(compiled, "why_not", lambda: "there is no compiler")


def test_what_is_measured(suite, job):
    suite |= {"methods": ["float", "lmb"], "seeds": [0, 1], "upscale": [2, 4]}
    suite["networks"]["other"] = {"arch": {"type": "LMBVDSR", "num_feat": 8, "num_conv": 1}, "methods": ["float"]}
    prepared = job(suite)
    assert to_measure(prepared.cells, prepared.cells, prepared.store) == []
    finish(prepared)
    names = [[cell.name for cell in group] for group in to_measure(prepared.cells, prepared.cells, prepared.store)]
    assert names == [[f"net/{m}/x{u}/seed0" for m in ("float", "lmb")] + [f"other/float/x{u}/seed0"] for u in (2, 4)]

    machine = machine_key()
    for cell in prepared.cells:
        if cell.method == "float":
            prepared.store.write_latency(machine, cell.latency_key, {})
    names = [[cell.name for cell in group] for group in to_measure(prepared.cells, prepared.cells, prepared.store)]
    assert names == [[f"net/{m}/x{u}/seed0" for m in ("float", "lmb")] for u in (2, 4)]  # float again: the same run

    result = {"unsupported": "it cannot"}
    for cell in prepared.cells:
        prepared.store.write_result(cell, result)
    assert to_measure(prepared.cells, prepared.cells, prepared.store) == []


def test_seeds_share_a_key_and_other_networks_do_not(suite, job):
    suite |= {"methods": ["float", "lmb", "int8-pt2e", {"name": "k5", "recipe": "lmb", "activation": {"window": 5}}]}
    suite["seeds"] = [0, 1]
    keys = {cell.name: cell.latency_key for cell in job(suite).cells}
    assert keys["net/lmb/x2/seed0"] == keys["net/lmb/x2/seed1"]
    assert len(set(keys.values())) == 4
    assert (lr_size(4), lr_size(3)) == ((180, 320), (240, 427))


def test_forms_of_the_engine_in_8_bits(suite, job, no_compiler):
    int8 = {"name": "lmb-hybrid-int8", "recipe": "lmb-hybrid", "arithmetic": "int8"}
    hybrid = {"type": "LMBHybridNet", "num_feat": 8, "num_block": 1}
    suite["networks"] = {
        "net": {"arch": hybrid, "methods": ["engine-int8", int8]},
        "dense": {"arch": {"type": "LMBSRResNet", "num_feat": 8, "num_block": 1}, "methods": ["engine-int8"]},
    }
    prepared = finish(job(suite))
    separable, packed, dense = timing.time_cells(prepared.cells, prepared.store, (16, 20), 2)
    assert (separable["forms"].keys(), packed["forms"].keys()) == ({"engine"}, {"packed"})
    assert all(25 < each["forms"][name]["sqnr"] < 100 for each, name in ((separable, "engine"), (packed, "packed")))
    assert dense["forms"] == {}
    assert "the network has no real pointwise convolution" in dense["reasons"][0]


def test_forms_and_reasons(suite, job, no_compiler):
    suite["methods"] = ["float", "lmb", "int8-weight", "int8-pt2e"]
    prepared = finish(job(suite))
    floating, lmb, weight, static = timing.time_cells(prepared.cells, prepared.store, (16, 20), 2)
    assert floating["forms"].keys() == {"eager", "engine"}
    assert floating["forms"]["engine"]["sqnr"] > 100
    assert weight["forms"].keys() == {"eager"}
    assert lmb["forms"].keys() == {"packed"}
    assert lmb["forms"]["packed"]["sqnr"] is None or lmb["forms"]["packed"]["sqnr"] > 40
    assert 0 < lmb["forms"]["packed"]["minimum"] <= lmb["forms"]["packed"]["median"]
    assert lmb["float"] == {name: form["median"] for name, form in floating["forms"].items()}
    assert lmb["reasons"] == []
    assert static["forms"] == {}
    assert static["reasons"] == ["compiled: there is no compiler"]


def test_a_form_with_a_wrong_output_is_not_timed(suite, job, no_compiler, monkeypatch):
    suite["methods"] = ["lmb"]
    prepared = finish(job(suite))

    class Negative(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, image):
            return -self.network(image)

    monkeypatch.setattr(timing, "convert", Negative)
    (lmb,) = timing.time_cells(prepared.cells[:1], prepared.store, (16, 20), 2)
    assert lmb["forms"] == {}
    assert lmb["reasons"][0].startswith("packed: its output is wrong: -6.0 dB")


def test_a_form_that_fails_without_a_word_leaves_the_others(suite, job, no_compiler, monkeypatch):
    suite["methods"] = ["float", "lmb"]
    prepared = finish(job(suite))

    class Failing(torch.nn.Module):
        def __init__(self, network):
            super().__init__()

        def forward(self, image):
            raise NotImplementedError

    monkeypatch.setattr(timing, "convert", Failing)
    floating, lmb = timing.time_cells(prepared.cells, prepared.store, (16, 20), 2)
    assert lmb["reasons"] == ["packed: NotImplementedError: without a reason"]
    assert floating["forms"].keys() == {"eager", "engine"}


@pytest.mark.train
@pytest.mark.skipif(bool(compiled.why_not()), reason="needs a C++ compiler")
def test_measured_once_in_another_process(suite, job, monkeypatch):
    suite["methods"] = ["int8-pt2e"]
    prepared = finish(job(suite))
    monkeypatch.setattr("lmb_quant.bench.suite.measure.latency.lr_size", lambda upscale: (16, 20))
    monkeypatch.setattr("lmb_quant.bench.suite.measure.latency.ROUNDS", 2)
    told = []
    measure(prepared.cells, prepared.cells, prepared.store, told.append)
    assert len(told) == 1
    static = prepared.store.latency(machine_key(), prepared.cells[0].latency_key)
    assert static["forms"].keys() == {"compiled"}
    assert static["forms"]["compiled"]["sqnr"] is None or static["forms"]["compiled"]["sqnr"] > 40
    assert static["machine"]["cpu"]
    measure(prepared.cells, prepared.cells, prepared.store, told.append)
    assert len(told) == 1
