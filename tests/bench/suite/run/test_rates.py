# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/run/rates.py: the learning rate of each network and method, found on the validation set."""

from __future__ import annotations

import io
import os

import pytest
import yaml
from rich.console import Console

import lmb_quant as lmb
from lmb_quant.bench.suite.plan.schema import Suite
from lmb_quant.bench.suite.run.rates import at_rate, best_rates, search_rates
from lmb_quant.bench.suite.store import Store


def told(path, rates, data, output, **options):
    """Searches; returns the exit code and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    code = search_rates(path, rates, console, data=data, output=output, **options)
    return code, console.file.getvalue()


def test_the_rates_found_are_those_of_the_best_cells_and_fit_the_suite(suite, write, data, tmp_path):
    suite |= {"methods": ["bicubic", "float", "bf16", "lmb"], "seeds": [0, 1], "rates": {"lmb": 0.5}}
    suite["data"] = {"train": ["a"], "test": ["c", "d"], "validate": "d"}
    path, output = write(suite), tmp_path / "out"
    code, out = told(path, [3e-2, 1e-3], data, output, steps=4, jobs=2)
    assert code == 0

    names = {"net/float/x2/seed0": "float", "net/lmb/x2/seed0": "lmb"}  # one seed; bf16 is made of float
    scores = {}
    for rate in ("0.001", "0.03"):
        manifest = Store(output).suite(f"tiny-rate-{rate}")
        for cell in manifest["cells"]:
            result = Store(output).result(cell["key"])
            name = f"net/{cell['method']}/x2/seed{cell['seed']}"
            assert (result is not None) == (name in names)
            if result:
                assert list(result["scores"]) == ["d"]
                scores.setdefault(names[name], {})[float(rate)] = result["scores"]["d"]["psnr"]
    assert [set(psnr) for psnr in scores.values()] == [{1e-3, 3e-2}] * 2
    found = yaml.safe_load(out.split("For the suite's file:\n")[1].split("At an end")[0])["networks"]["net"]["rates"]
    assert found == {method: max(psnr, key=psnr.get) for method, psnr in scores.items()}
    assert f"{scores['lmb'][1e-3]:.3f}" in out
    Store(output).write_suite("older", {})
    os.utime(output / "suites" / "older.json", (0, 0))
    assert Store(output).suites()[0] == "older"  # a report is about a run, not about a search
    assert "net/float at" in out.split("there may be better ones")[1]
    assert out.index("Rate 0.001, 1 of 2:") < out.index("Rate 0.03, 2 of 2:")

    suite["networks"]["net"]["rates"] = found
    assert Suite.load(write(suite)).networks["net"].rates == found
    code, again = told(path, [3e-2, 1e-3], data, output, steps=4, jobs=2)
    assert code == 0
    assert again.split("PSNR on Y of d")[1] == out.split("PSNR on Y of d")[1]


def test_what_is_trained_is_the_suite_but_for_rate_steps_and_images(suite, write):
    suite["networks"]["net"]["rates"] = {"lmb": 2e-3}
    loaded = Suite.load(write(suite))
    trial = at_rate(loaded, 4e-3, 2)
    assert trial.training.optimizer == {"type": "Adam", "lr": 4e-3}
    assert (trial.training.steps, trial.training.validate_every, trial.training.checkpoint_every) == (2, 2, 2)
    assert trial.networks["net"].rates == {}
    assert trial.networks["net"].arch == loaded.networks["net"].arch
    assert trial.data.test == ["c"]
    assert trial.name == "tiny-rate-0.004"
    suite["training"]["scheduler"] = {"type": "MultiStepRestartLR", "milestones": [1, 5], "restarts": [0], "gamma": 0.5}
    scheduler = at_rate(Suite.load(write(suite)), 4e-3, 2).training.scheduler
    assert (scheduler["milestones"], scheduler["restarts"]) == ([1, 2], [0])


def test_of_equal_rates_the_lowest_is_taken():
    found = {("a", "sign"): {2e-3: 30.0, 1e-3: 30.0, 4e-3: 29.0}, ("a", "lmb"): {1e-3: 1.0, 2e-3: 2.0}}
    assert best_rates(found) == {"a": {"sign": 1e-3, "lmb": 2e-3}}


@pytest.mark.parametrize("rates", [[], [1e-3], [1e-3, 1e-3], [0.0, 1e-3], [-1.0, 1e-3], [1e-3, float("inf")]])
def test_rates_that_are_no_search_are_named(suite, write, data, tmp_path, rates):
    with pytest.raises(lmb.LMBError, match=r"rates: \[.*\] is not allowed. Allowed: two different ones"):
        told(write(suite), rates, data, tmp_path / "out")


def test_a_selection_without_training_is_named(suite, write, data, tmp_path):
    suite["methods"] = ["bicubic", "sign"]
    with pytest.raises(lmb.LMBError, match="nothing that was selected is trained"):
        told(write(suite), [1e-3, 2e-3], data, tmp_path / "out", only="bicubic")
