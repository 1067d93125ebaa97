# SPDX-License-Identifier: Apache-2.0
"""lmb-quant bench kernels, speed and training-step, in sizes of a moment."""

import json

import pytest
from helpers import needs_compiler
from typer.testing import CliRunner

from lmb_quant import LMBError
from lmb_quant.bench.kernels import measure_kernels
from lmb_quant.bench.speed import measure_speed
from lmb_quant.cli import app
from lmb_quant.recipe import recipe_names


def command(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def figures(path, *arguments):
    done = command(*arguments, "--output", path)
    assert done.exit_code == 0, done.output
    return json.loads(path.read_text()), done.output


def test_kernels(tmp_path):
    found, shown = figures(tmp_path / "a.json", "kernels", "--smoke", "--isa", "best", "--isa", "portable")
    assert [times["isa"] for times in found["isas"]] == ["best", "portable"]
    assert found["isas"][1]["machine"]["restricted"]["LMB_QUANT_ISA"] == "portable"
    assert found["clock"] == "CPU time of the thread"
    for times in found["isas"]:
        (layer,) = times["layers"]
        names = [form["name"] for form in layer["forms"]]
        assert names[:3] == ["packed, in place", "packed", "fp32"]
        assert all(form["sqnr"] > 90 and form["timing"]["wall"]["minimum"] > 0 for form in layer["forms"][:3])
    assert "packed in place is faster" in shown
    assert "compiled forms, and int8 with them, are left out: not asked for" in shown


def test_speed(tmp_path):
    found, shown = figures(tmp_path / "a.json", "speed", "--smoke")
    assert {(form["name"], form["threads"]) for form in found["forms"]} >= {
        (name, threads) for name in ("packed", "packed, layer by layer", "float") for threads in (1, 2)
    }
    assert found["binary_layers"]["packed"] < found["binary_layers"]["floating"]
    assert found["arguments"] == {"num_feat": 8, "num_block": 1, "upscale": 4}
    assert "packed is faster" in shown
    assert "threads gain" in shown


@needs_compiler
def test_speed_compiled_and_against_int8():
    pytest.importorskip("torchao")
    report = measure_speed(blocks=1, num_feat=8, size=(12, 16), rounds=1, threads=1)
    names = {form.name: form for form in report.forms}
    assert {"packed", "packed, compiled", "float", "float, compiled", "int8, PT2E, compiled"} <= set(names)
    assert names["int8, PT2E, compiled"].sqnr > 20
    assert report.ratio("float") > 0
    assert report.ratio("packed") == 1


def test_training_step(tmp_path, monkeypatch):
    found, shown = figures(tmp_path / "a.json", "training-step", "--smoke", "--rounds", 1, "--recipe", "sign")
    assert {step["recipe"] for step in found["steps"]} == {"float", "sign"}
    assert all(step["peak"] is None or step["peak"] >= 0 for step in found["steps"])
    assert "against float" in shown
    monkeypatch.setattr("lmb_quant.bench.training_step.can_measure", lambda: False)  # a process for each recipe
    found, _ = figures(tmp_path / "b.json", "training-step", "--smoke", "--rounds", 1)
    assert list(dict.fromkeys(step["recipe"] for step in found["steps"])) == ["float", *recipe_names()]
    assert {step["trains_by"] for step in found["steps"]} > {"PyTorch", "engine"}


@pytest.mark.parametrize("name", ["kernels", "speed", "training-step"])
def test_an_existing_file_is_refused_before_anything_is_measured(name, tmp_path):
    (tmp_path / "a.json").write_text("mine")
    done = command(name, "--output", tmp_path / "a.json")  # in full size: it would take minutes
    assert isinstance(done.exception, LMBError)
    assert "exists and is not overwritten" in str(done.exception)
    assert (tmp_path / "a.json").read_text() == "mine"


@pytest.mark.parametrize("channels", ["", "a", "64,", "0", "-1", "6.4"])
def test_channels_that_are_none(channels):
    done = command("kernels", "--channels", channels)
    assert isinstance(done.exception, LMBError)
    assert "Allowed: whole numbers above 0" in str(done.exception)


def test_other_mistakes():
    with pytest.raises(LMBError, match="size"):
        measure_kernels(size=(0, 4))
    with pytest.raises(LMBError, match=r"arch: .*'vdr'|unknown arch 'vdr'. Did you mean 'vdsr'"):
        measure_speed(arch="vdr")
    with pytest.raises(LMBError, match=r"avx1024"):
        measure_kernels(channels=[8], size=(4, 4), isas=["avx1024"], rounds=1, with_compiled=False)
    with pytest.raises(LMBError, match="threads: 0 is not allowed"):
        measure_speed(threads=0)
    with pytest.raises(LMBError, match="'scales' has no packed form"):
        measure_speed(recipe="scales", blocks=1, num_feat=8)


def test_speed_of_another_recipe(monkeypatch):
    monkeypatch.setattr("lmb_quant.bench.memory.can_measure", lambda: False)  # measured by another test
    report = measure_speed(recipe="lmb-spatial", blocks=1, num_feat=8, size=(12, 16), rounds=1, with_compiled=False)
    assert "recipe lmb-spatial" in str(report)
    numbers = 8 * 8  # alpha, bias, shift, gain, slope, gamma, zeta: 7 for each of 8 channels; the pixel factor's 9
    assert report.binary_layers.packed == 2 * (8 * 9 + 4 * (numbers + 1))
