# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/plan/schema.py and methods.py: what a suite may say."""

from importlib.resources import files

import pytest

from lmb_quant import LMBError
from lmb_quant.bench.suite.plan.methods import resolve_methods
from lmb_quant.bench.suite.plan.schema import Suite
from lmb_quant.bench.suite.plan.schemes import HOSTS
from lmb_quant.recipe import Recipe, recipe_names
from lmb_quant.strict_yaml import shipped_names

NAMES = shipped_names(files("lmb_quant.bench").joinpath("suites"))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_suite_is_a_suite(name):
    suite = Suite.load(name)
    assert suite.name == name
    assert suite.description
    for network in suite.networks.values():
        assert resolve_methods(network.methods or suite.methods, name)


def test_shipped_suites():
    assert {"smoke", "quick", "full"} <= set(NAMES)


def test_all_is_every_shipped_recipe_every_host_scheme_bicubic_and_float():
    assert [method.name for method in resolve_methods("all", "x")] == ["bicubic", "float", *HOSTS, *recipe_names()]
    assert [method.host for method in resolve_methods(["float", "hosts"], "x")] == [None, *HOSTS]


def test_a_method_changes_a_recipe_and_may_take_its_place():
    methods = resolve_methods(["all", {"name": "lmb", "recipe": "lmb", "activation": {"window": 7}}], "x")
    assert [method.name for method in methods] == ["bicubic", "float", *HOSTS, *recipe_names()]
    changed = next(method.recipe for method in methods if method.name == "lmb")
    assert changed.scheme.activation.options["window"] == 7
    assert changed.scheme.weight == Recipe.load("lmb").scheme.weight


def test_a_recipe_beside_the_suite(tmp_path):
    (tmp_path / "suite.yaml").touch()
    (tmp_path / "mine.yaml").write_text(Recipe.load("sign").to_yaml())
    (method,) = resolve_methods(["mine.yaml"], str(tmp_path / "suite.yaml"))
    assert method.name == "mine"
    assert method.recipe == Recipe.load("sign")


def broken(changes):
    def change(suite):
        for path, value in changes.items():
            *sections, last = path.split(".")
            node = suite
            for section in sections:
                node = node[section]
            node[last] = value

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks.net.seeds": [1, 1]}, r"suite.yaml: networks.net.seeds: \[1, 1\] is not allowed. Each may stand"),
        ({"seed": [0]}, r"suite.yaml: unknown key 'seed'. Did you mean 'seeds'\?"),
        ({"training.step": 3}, r"training: unknown key 'step'. Did you mean 'steps'\?"),
        ({"networks.net.method": []}, r"networks.net: unknown key 'method'. Did you mean 'methods'\?"),
        ({"training.steps": 0}, r"training.steps: 0 is not allowed"),
        ({"training.steps": "10"}, r"training.steps: '10' is not allowed"),
        ({"seeds": [1, 1]}, r"seeds: \[1, 1\] is not allowed. Each may stand there once"),
        ({"networks": {}}, r"networks: {} is not allowed"),
        ({"name": "a/b"}, r"name: 'a/b' is not allowed"),
        ({"data.validate": "d"}, r"unknown test set 'd'. Allowed: c"),
        ({"methods": ["lmbb"]}, r"methods\[0\]: unknown method 'lmbb'. Did you mean 'lmb'\?"),
        ({"methods": ["lmb", "lmb"]}, r"methods\[1\]: the name 'lmb' is given twice"),
        ({"methods": [{"name": "x"}]}, r"methods\[0\]: the key 'recipe' is missing"),
        (
            {"methods": [{"name": "x", "recipe": "lmb", "seeds": [7]}]},
            r"method 'x': seeds: 7 is not allowed. Allowed: of",
        ),
        ({"methods": [{"name": "float", "recipe": "lmb"}]}, r"name: 'float' is not allowed"),
        ({"methods": ["lmb", "nope.yaml"]}, r"suite.yaml: methods\[1\]: .*nope.yaml"),
        ({"methods": [{"name": "x", "recipe": "nope"}]}, r"suite.yaml: methods\[0\]: .*'nope'"),
        ({"methods": ["mine/bicubic.yaml"]}, r"methods\[0\]: name: 'bicubic' is not allowed: it has a meaning"),
        ({"networks.net.arch": {"type": "LMBSRResNett"}}, r"unknown architecture 'LMBSRResNett'"),
        ({"networks.net.arch": {"type": "LMBSRResNet", "upscale": 2}}, r"the key 'upscale' is not allowed"),
        ({"data.train": ["aa"]}, r"data.train: unknown folder of .*train 'aa'. Did you mean 'a'\? Allowed: a, b"),
    ],
)
def test_mistakes_are_named(suite, job, changes, message):
    broken(changes)(suite)
    with pytest.raises(LMBError, match=message):
        job(suite)


def test_unknown_suite():
    with pytest.raises(LMBError, match=r"unknown suite 'quik'. Did you mean 'quick'\?"):
        Suite.load("quik")


def test_a_suite_without_images_asks_for_them(suite, write, tmp_path):
    from lmb_quant.bench.suite.run.job import prepare

    with pytest.raises(LMBError, match=r"Give --data DIR with the folders train/a, test/c"):
        prepare(write(suite), data=None, output=tmp_path / "out")


def test_an_option_that_a_method_sets_to_null_stays_so():
    (method,) = resolve_methods([{"name": "x", "recipe": "design", "activation": {"kernel": None}}], "here")
    assert method.recipe.scheme.activation.options["kernel"] is None
    assert method.recipe == Recipe.load(method.recipe.to_dict())
