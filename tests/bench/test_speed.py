# SPDX-License-Identifier: Apache-2.0
"""lmb-quant bench kernels, speed and training-step, in sizes of a moment."""

import importlib.util
import json

import pytest
import torch
from helpers import needs_compiler
from typer.testing import CliRunner

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.bench.kernels import measure_kernels
from lmb_quant.bench.part_times import PORTS, limits_of, measure_parts
from lmb_quant.bench.speed import measure_speed
from lmb_quant.cli import app
from lmb_quant.machine import multiplies_bf16
from lmb_quant.recipe import recipe_names
from lmb_quant.zoo import network_file

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


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
        beside = ["packed, sign", "openvino, sign"] if HAS_OPENVINO and times["isa"] == "best" else []
        assert names[: len(beside) + 3] == ["packed, in place", "packed", *beside, "fp32"]
        for form in layer["forms"][: len(beside) + 3]:
            assert form["sqnr"] is None or form["sqnr"] > 90
            assert form["timing"]["wall"]["minimum"] > 0
    assert "packed in place is faster" in shown
    assert "compiled forms, and int8 with them, are left out: not asked for" in shown


def test_without_openvino_its_row_is_absent_and_a_line_says_how_to_get_it(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    shown = str(measure_kernels(channels=[8], size=(6, 7), rounds=1, with_compiled=False))
    assert "openvino, sign" not in shown
    assert "openvino is left out: it is not installed. To install it: pip install 'lmb-quant[bench]'" in shown


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
def test_openvino_computes_the_packed_layer_of_signs_and_nothing_else_is_timed(monkeypatch):
    shown = str(measure_kernels(channels=[24, 12], size=(9, 7), rounds=1, with_compiled=False))
    assert shown.count("openvino, sign") == 1
    assert "openvino is left out: its results are wrong for 12 channels. Allowed: multiples of 8" in shown
    monkeypatch.setattr("lmb_quant.bench.layers.openvino_layer", lambda *arguments: torch.neg)
    with pytest.raises(LMBError, match="8 channels: openvino, sign: its output is wrong"):
        measure_kernels(channels=[8], size=(9, 7), rounds=1, with_compiled=False)


def test_parts(tmp_path):
    sets = ("--channels", "20,64", "--isa", "best", "--isa", "portable")
    found, shown = figures(tmp_path / "a.json", "kernels", "--parts", "--smoke", *sets)
    assert [times["isa"] for times in found["isas"]] == ["best", "portable"]
    for times in found["isas"]:
        assert [layer["channels"] for layer in times["layers"]] == [20, 64]
        for layer in times["layers"]:
            assert layer["sqnr"] is None or layer["sqnr"] >= 60
            assert layer["gigahertz"] > 0
            parts = {(part["stage"], part["name"]): part for part in layer["parts"]}
            named = {("lmb", "threshold"), ("lmb-spatial", "rest"), ("3 x 3", "sums"), ("enlarging", "rest")}
            assert named <= set(parts)
            assert all(part["cycles"] >= 0 for part in parts.values())
            for stage in ("lmb", "lmb-spatial"):
                each = [part["cycles"] for (name, word), part in parts.items() if name == stage and word != "all"]
                assert len(each) == 5
                assert parts[stage, "all"]["cycles"] == pytest.approx(sum(each))
    assert all(part["limit"] is None for part in found["isas"][1]["layers"][0]["parts"])
    assert "port limit" in shown


def test_limits_of_parts():
    limits = limits_of(64, PORTS["avx2"])
    assert limits["head 3 x 3", "sums"] == 27 * 64 / 16
    assert limits["depthwise 3 x 3", "sums"] == 9 * 64 / 16
    assert limits["pointwise", "sums"] == 64 * 64 / 16
    assert limits["3 x 3", "sums"] == 9 * 64 * 64 / 16
    assert limits["pointwise tail", "sums"] == 64 * 48 / 16
    assert limits["lmb", "sums"] == (144 + 72) / 2  # look-ups of pixel pairs and their tables, two loads a cycle
    assert limits["lmb", "threshold"] == 24
    assert limits_of(64, PORTS["avx512"])["lmb", "sums"] == 54


def test_mistakes_of_parts():
    done = command("kernels", "--parts", "--threads", 2)
    assert isinstance(done.exception, LMBError)
    assert "Allowed: 1" in str(done.exception)
    for wrong in ({"channels": []}, {"size": (0, 4)}, {"runs": 0}):
        with pytest.raises(LMBError, match="Allowed: whole numbers above 0"):
            measure_parts(**wrong)


def test_speed(tmp_path):
    found, shown = figures(tmp_path / "a.json", "speed", "--smoke")
    assert {(form["name"], form["threads"]) for form in found["forms"]} >= {
        (name, threads) for name in ("packed", "packed, layer by layer", "float") for threads in (1, 2)
    }
    assert found["binary_layers"]["packed"] < found["binary_layers"]["floating"]
    assert found["arguments"] == {"num_feat": 8, "num_block": 1, "upscale": 4}
    assert "packed is faster" in shown
    assert "threads gain" in shown


def test_speed_of_a_network_that_comes_with_the_package(tmp_path):
    found, shown = figures(tmp_path / "a.json", "speed", "--smoke", "--network", "lmb_small_x4", "--threads", 1)
    assert (found["network"], found["arch"], found["recipe"]) == ("lmb_small_x4", "hybrid", "lmb-hybrid")
    assert found["arguments"]["tail"] == "pointwise"
    assert "lmb_small_x4: hybrid (num_in_ch 3" in shown
    bf16 = {"bf16"} if multiplies_bf16() else set()
    packed = {"packed", "packed, real parts int8", "packed, layer by layer"}
    assert {form["name"] for form in found["forms"]} == packed | {"float"} | bf16
    assert all(form["sqnr"] is None or form["sqnr"] > 30 for form in found["forms"])
    with network_file("lmb_small_x4") as path:
        assert found["file"]["packed"] == path.stat().st_size


def test_networks_that_cannot_be_timed(tmp_path):
    gray = lmb.convert(lmb.archs.LMBSRResNet(num_in_ch=1, num_out_ch=1, num_feat=8, num_block=1, upscale=2))
    lmb.save(gray, tmp_path / "gray.safetensors")
    (tmp_path / "text.safetensors").write_text("no network")
    for name, words in {
        "lmb_bas_x4": r"network: 'lmb_bas_x4' is no file. Allowed: a file .* or a name: .*lmb_base_x4.*, lmb_large_x4",
        str(tmp_path / "text.safetensors"): r"text.safetensors: it is not a safetensors file",
        str(tmp_path / "gray.safetensors"): r"network: num_in_ch 1 is not allowed. Allowed: 3",
    }.items():
        with pytest.raises(LMBError, match=words):
            measure_speed(network=name)
    with pytest.raises(LMBError, match="recipe: 'lmb' is not allowed beside network"):
        measure_speed(network="lmb_base_x4", recipe="lmb")


@needs_compiler
def test_speed_compiled_and_against_int8(tmp_path):
    pytest.importorskip("torchao")
    lmb.save(lmb.convert(lmb.archs.LMBSRResNet(num_feat=8, num_block=1)), tmp_path / "net.safetensors")
    report = measure_speed(network=str(tmp_path / "net.safetensors"), size=(12, 16), rounds=1, threads=1)
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
    assert "a.json: it exists. Allowed: another name." in str(done.exception)
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
