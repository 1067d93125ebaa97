# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/code.py: what counts as a change of code."""

from lmb_quant.bench.suite import code
from lmb_quant.recipe import Recipe


def digest(tmp_path, text):
    path = tmp_path / "x.py"
    path.write_text(text)
    code._essence.cache_clear()
    return code._digest([path])


def test_only_what_runs_counts(tmp_path):
    before = digest(tmp_path, "def f(x):\n    return x + 1\n")
    assert digest(tmp_path, '"""Words."""\n\ndef f(x):\n    """Words."""\n    # words\n    return (x + 1)\n') == before
    assert digest(tmp_path, "def f(x):\n    return x + 2\n") != before


def test_a_recipe_counts_its_own_binarisers_only():
    assert set(code.binarizer_digests(Recipe.load("lmb"))) == {"activation local_mean", "weight sign"}
    changed = Recipe.load("lmb").to_dict() | {
        "overrides": [{"match": "*", "activation": {"binarizer": "rsign"}}, {"match": "x", "skip_layer": True}]
    }
    assert set(code.binarizer_digests(Recipe.load(changed))) == {
        "activation local_mean", "activation rsign", "weight sign",
    }  # fmt: skip
    assert code.binarizer_digests(None) == {}


def test_training_code_is_found():
    assert len(code.training_code()) == 16
