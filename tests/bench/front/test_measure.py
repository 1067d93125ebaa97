# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/front/measure.py: a suite's networks, timed without training one."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from lmb_quant import LMBError
from lmb_quant.bench.front import measure_front
from lmb_quant.cli import app

SUITE = {
    "version": 1,
    "name": "tiny",
    "networks": {
        name: {"arch": {"type": "LMBSRResNet", "num_feat": 8, "num_block": blocks}}
        for name, blocks in (("one", 1), ("three", 3))
    },
    "methods": ["bicubic", "float", "sign", "lmb"],
    "upscale": [2, 4],
    "seeds": [0, 1],
    "data": {"train": ["not there"], "test": ["not there"]},
    "training": {
        "steps": 1, "batch": 1, "patch": 8, "optimizer": {"type": "Adam", "lr": 1e-3},
        "scheduler": {"type": "CosineAnnealingLR"}, "validate_every": 1, "checkpoint_every": 1,
    },
}  # fmt: skip


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    return path


def test_each_network_and_method_is_timed_once_and_needs_no_images(suite, tmp_path):
    output = tmp_path / "front.json"
    command = ["bench", "front", "--suite", str(suite), "--smoke", "--output", str(output), "--only"]
    said = CliRunner().invoke(app, [*command, "three/lmb/*", "--only", "*lmb*"], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    assert "suite tiny, x2" in said.output
    figures = json.loads(output.read_text())
    found = [(form["network"], form["method"], form["form"]) for form in figures["forms"]]
    assert sorted(found) == [("one", "lmb", "packed"), ("three", "lmb", "packed")]
    assert [form["median"] for form in figures["forms"]] == sorted(form["median"] for form in figures["forms"])
    assert all(0 < form["minimum"] <= form["median"] for form in figures["forms"])
    assert figures["size"] == [12, 16]
    assert figures["notes"] == []


def test_two_threads_are_timed_by_the_clock_on_the_wall(suite):
    report = measure_front(suite, only=["one/lmb/*"], size=(12, 16), rounds=1, threads=2)
    assert [form.form for form in report.forms] == ["packed"]
    assert "2 thread(s): wall time; 1 interleaved rounds" in str(report)


def test_a_glob_that_matches_nothing_is_refused(suite):
    with pytest.raises(LMBError, match=r"--only: 'vdsr' matches no cell"):
        measure_front(suite, only=["*lmb*", "vdsr"])
    with pytest.raises(LMBError, match=r"--only bicubic: no network of SR factor 2"):
        measure_front(suite, only=["bicubic"])


def test_a_scheme_that_a_network_does_not_take_is_a_note(suite):
    suite.write_text(yaml.safe_dump({**SUITE, "methods": ["int8-dynamic", "lmb"]}))
    report = measure_front(suite, only=["one/int8-dynamic/*", "one/lmb/*"], size=(12, 16), rounds=1)
    assert [form.method for form in report.forms] == ["lmb"]
    (note,) = report.notes
    assert note.startswith("one, int8-dynamic: ")
