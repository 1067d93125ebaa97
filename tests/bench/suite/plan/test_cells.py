# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/plan/{cell,cells}.py and run/options.py: what decides a key, what differs between methods."""

import numpy as np
import pytest
from PIL import Image

from lmb_quant import LMBError
from lmb_quant.bench.suite.plan.cell import Cell, ImageSet
from lmb_quant.bench.suite.plan.schema import Training
from lmb_quant.bench.suite.run.options import training_options
from lmb_quant.recipe import Recipe

TRAINING = {
    "steps": 6,
    "batch": 2,
    "patch": 8,
    "optimizer": {"type": "Adam", "lr": 1e-3},
    "scheduler": {"type": "CosineAnnealingLR"},
    "validate_every": 3,
    "checkpoint_every": 3,
}


RECIPE = {
    "version": 1,
    "metadata": {"name": "method"},
    "scheme": {"activation": {"binarizer": "local_mean"}, "weight": {"binarizer": "sign"}},
}


def make_cell(method, **changes):
    """A cell whose content does not depend on what is installed."""
    images = {part: ImageSet(name=part, folder="x", images=1, digest=part * 2) for part in "ab"}
    recipe = RECIPE if method == "lmb" else None
    content = {
        "network": "net",
        "method": method,
        "upscale": 4,
        "seed": 0,
        "network_g": None if method == "bicubic" else {"type": "LMBSRResNet", "upscale": 4, "recipe": recipe},
        "hooks": (),
        "training": Training.model_validate(TRAINING),
        "threads": 1,
        "train": (images["a"],),
        "test": (images["b"],),
        "validation": "b",
        "torch": "2.13",
        "binarizers": {"activation local_mean": "x"} if recipe else {},
    }
    return Cell.model_validate({**content, **changes})


def keys(job):
    return {cell.name: (cell.training_key, cell.key) for cell in job.cells}


def test_a_method_has_its_own_rate_and_the_network_goes_before_the_suite(suite, job):
    suite |= {"methods": ["bicubic", "float", "bf16", "sign", "lmb"], "rates": {"float": 2e-3, "lmb": 4e-3}}
    label = next(iter(suite["networks"]))
    suite["networks"]["other"] = {**suite["networks"][label], "rates": {"lmb": 1}}
    found = {cell.name.split("/seed")[0]: cell.training.optimizer["lr"] for cell in job(suite).cells}
    plain = suite["training"]["optimizer"]["lr"]
    assert found[f"{label}/float/x2"] == found[f"{label}/bf16/x2"] == 2e-3
    assert found[f"{label}/sign/x2"] == plain
    assert found[f"{label}/lmb/x2"] == 4e-3
    assert found["other/lmb/x2"] == 1
    assert len({cell.training_key for cell in job(suite).cells if "/lmb/" in cell.name}) == 2


@pytest.mark.parametrize(
    ("place", "rates", "message"),
    [
        ("suite", {"lbm": 1e-3}, r"rates: unknown method 'lbm'\. Did you mean 'lmb'\?"),
        ("network", {"bicubic": 1e-3}, r"networks\.\w+\.rates: unknown method 'bicubic'\. Allowed: float, lmb"),
        ("suite", {"lmb": 0}, r"rates\.lmb: 0.*greater than 0"),
        ("suite", {"lmb": float("inf")}, r"rates\.lmb: inf.*finite"),
    ],
)
def test_rates_that_are_not_allowed(suite, job, place, rates, message):
    suite |= {"methods": ["bicubic", "float", "lmb"]}
    (suite if place == "suite" else next(iter(suite["networks"].values())))["rates"] = rates
    with pytest.raises(LMBError, match=message):
        job(suite)


def test_a_cell_for_each_network_method_upscale_and_seed(suite, job):
    suite |= {"upscale": [2, 4], "seeds": [3, 0], "methods": ["bicubic", "lmb"]}
    suite["networks"]["vdsr"] = {"arch": {"type": "LMBVDSR", "num_feat": 8, "num_conv": 1}, "methods": ["float"]}
    names = [cell.name for cell in job(suite).cells]
    assert names[:3] == ["none/bicubic/x2/seed3", "net/lmb/x2/seed3", "vdsr/float/x2/seed3"]
    assert len(names) == 2 + 4 + 4  # bicubic has no seed
    assert len(set(names)) == len(names)
    suite["networks"]["vdsr"]["seeds"] = [0, 5]
    found = {(cell.network, cell.seed) for cell in job(suite).cells}
    assert found == {("none", 3), ("net", 3), ("net", 0), ("vdsr", 0), ("vdsr", 5)}
    suite["methods"] = ["lmb", {"name": "control", "recipe": "lmb", "seeds": [0]}]
    found = [(cell.method, cell.seed) for cell in job(suite).cells if cell.network == "net" and cell.upscale == 2]
    assert found == [("lmb", 3), ("lmb", 0), ("control", 0)]


def test_only_selects_by_name_or_part(suite, job):
    suite["seeds"] = [0, 1]
    assert {cell.method for cell in job(suite, "s*gn").selected} == {"sign"}
    assert [cell.name for cell in job(suite, "net/lmb/x2/seed1").selected] == ["net/lmb/x2/seed1"]
    with pytest.raises(LMBError, match=r"--only: 'rsign' matches no cell, such as 'net/float/x2/seed0'"):
        job(suite, "rsign")


def test_names_places_and_descriptions_do_not_change_a_key(suite, job, data, write, tmp_path):
    before = keys(job(suite))["net/lmb/x2/seed0"]
    recipe = Recipe.load("lmb").to_dict() | {"metadata": {"name": "x", "description": "other words"}}
    suite |= {"methods": [{"name": "mine", "recipe": recipe}], "name": "other", "description": "other"}
    suite["networks"] = {"renamed": suite["networks"]["net"]}
    assert keys(job(suite))["renamed/mine/x2/seed0"] == before
    data.rename(tmp_path / "elsewhere")
    from lmb_quant.bench.suite.run.job import prepare

    moved = prepare(write(suite), data=tmp_path / "elsewhere", output=tmp_path / "out")
    assert keys(moved)["renamed/mine/x2/seed0"] == before


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("training", {"steps": 7}),
        ("training", {"patch": 10}),
        ("training", {"optimizer": {"type": "Adam", "lr": 2e-3}}),
        ("training", {"hooks": [{"type": "ClipBinaryWeights"}]}),
        ("data", {"train": ["b"]}),
        ("data", {"test": ["d"]}),  # it is validated on
        (None, {"threads": 2}),
        (None, {"networks": {"net": {"arch": {"type": "LMBSRResNet", "num_feat": 8, "num_block": 2}}}}),
        (None, {"methods": [{"name": "lmb", "recipe": "lmb", "activation": {"window": 5}}]}),
    ],
)
def test_what_decides_the_training_changes_its_key(suite, job, section, change):
    before = keys(job(suite))["net/lmb/x2/seed0"]
    (suite if section is None else suite[section]).update(change)
    after = keys(job(suite))["net/lmb/x2/seed0"]
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_another_test_set_keeps_the_training(suite, job):
    before = keys(job(suite))["net/lmb/x2/seed0"]
    suite["data"] |= {"test": ["c", "d"], "validate": "c"}
    after = keys(job(suite))["net/lmb/x2/seed0"]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_content_of_an_image_changes_the_key(suite, job, data):
    before = keys(job(suite))["net/lmb/x2/seed0"]
    image = np.array(Image.open(data / "train" / "a" / "0.png"))
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(data / "train" / "a" / "0.png")
    assert keys(job(suite))["net/lmb/x2/seed0"][0] != before[0]


def test_between_methods_only_the_recipe_differs(suite, job):
    suite["methods"] = ["float", "sign", {"name": "clipped", "recipe": "lmb", "hooks": [{"type": "ClipBinaryWeights"}]}]
    options = [training_options(cell, num_gpu=0) for cell in job(suite).cells]
    recipes = [each["network_g"].pop("recipe") for each in options]
    hooks = [each["train"].pop("hooks") for each in options]
    assert recipes[0] is None
    assert recipes[1] != recipes[2]
    assert hooks == [[{"type": "StepTimes"}]] * 2 + [[{"type": "ClipBinaryWeights"}, {"type": "StepTimes"}]]
    assert options[0] == options[1] == options[2]
    assert options[0]["train"]["precision"] == "fp32"  # on every CPU


def test_an_architecture_of_basicsr_takes_its_own_argument_for_the_factor(suite, job):
    suite["networks"] = {"ecbsr": {"arch": {"type": "ECBSR", "num_in_ch": 3, "num_out_ch": 3, "num_block": 1,
                                            "num_channel": 4, "with_idt": False, "act_type": "prelu"}}}  # fmt: skip
    assert job(suite, "float").selected[0].network_g["arch"]["scale"] == 2


@pytest.mark.parametrize(
    ("method", "training_key", "key"),
    [
        ("bicubic", "670f1b2629a92aaa", "0a800fce962e3bd2"),
        ("float", "9defceebff2cff70", "f3b614f84cfecf93"),
        ("lmb", "6b396f1c759839ab", "5bd08b59d16e1f0a"),
    ],
)
def test_keys_are_as_they_always_were(method, training_key, key):
    """Results that were trained long ago stay found: a field that a cell does not use is no part of its key."""
    cell = make_cell(method)
    assert (cell.training_key, cell.key) == (training_key, key)
