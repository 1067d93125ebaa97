# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/plan/code.py: what counts as a change of code."""

import pytest

from lmb_quant import binarizers
from lmb_quant.bench.suite.plan import code
from lmb_quant.recipe import Recipe


def test_a_recipe_counts_its_own_binarisers_only():
    assert set(code.binarizer_digests(Recipe.load("lmb"))) == {"activation local_mean", "weight sign"}
    changed = Recipe.load("lmb").to_dict() | {
        "overrides": [{"match": "*", "activation": {"binarizer": "rsign"}}, {"match": "x", "skip_layer": True}]
    }
    assert set(code.binarizer_digests(Recipe.load(changed))) == {
        "activation local_mean", "activation rsign", "weight sign",
    }  # fmt: skip
    assert code.binarizer_digests(None) == {}


def test_a_changed_binariser_does_not_find_its_old_cells(suite, job, tmp_path, monkeypatch):
    """The numbers of sign change: cells of sign are new, those of lmb, which has another activation, are not."""
    before = {cell.method: cell.training_key for cell in job(suite).cells}
    file = tmp_path / "sign.py"
    file.write_text("changed")
    changed = binarizers.activation_binarizers()["sign"]
    real = code.inspect.getfile
    monkeypatch.setattr(code.inspect, "getfile", lambda cls: str(file) if cls is changed else real(cls))
    after = {cell.method: cell.training_key for cell in job(suite).cells}
    assert {method for method in before if before[method] != after[method]} == {"sign"}


@pytest.mark.parametrize("name", ["torchao/int8.py", "torchao/weight_only.py"])
def test_code_of_integrations_is_found(name):
    assert len(code.integration_digest(name)) == 16
