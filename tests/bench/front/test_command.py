# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/front: the best picture at each latency, from latencies and scores that are there already."""

import json
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from lmb_quant import LMBError
from lmb_quant.bench.front import find_scores, read_front
from lmb_quant.bench.suite.plan.schema import Suite
from lmb_quant.cli import app
from lmb_quant.machine import Machine

TIMES = [
    ("one", "lmb", "packed", 0.010),
    ("one", "float", "engine", 0.015),
    ("two", "lmb", "packed", 0.020),
    ("one", "float", "compiled", 0.020),
    ("one", "float", "eager", 0.030),
    ("two", "bf16", "compiled", 0.040),
]
SCORES = """network,method,upscale,seeds,"A PSNR, dB",A SSIM,"B PSNR, dB"
one,lmb,x,2,30.0,0.8,25.5
one,float,x,2,30.125,0.8,25
two,lmb,x,2,30.5,0.8,25.25
two,bf16,x,2,30.75,0.8,26
two,bf16,4,2,99,0.8,99
""".replace(",x,", ",2,")


@pytest.fixture
def times(tmp_path):
    """A file as ``bench front --output`` writes it, of a suite that has no scores in the package."""
    forms = [
        {"network": network, "method": method, "form": form, "median": seconds, "minimum": seconds * 0.9}
        for network, method, form, seconds in TIMES
    ]
    report = {
        "suite": "tiny", "upscale": 2, "size": [12, 16], "rounds": 3, "threads": 1, "machine": asdict(Machine()),
        "forms": forms, "notes": ["a note"],
    }  # fmt: skip
    path = tmp_path / "times.json"
    path.write_text(json.dumps(report))
    return path


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(SCORES)
    return path


def front(*arguments):
    return CliRunner().invoke(app, ["bench", "front", *map(str, arguments)])


def table_under(output, title):
    """The cells of the rows below a title, columns two spaces apart or more."""
    lines = iter(output.splitlines())
    next(line for line in lines if title in line)
    rule = next(line for line in lines if line.strip().startswith("─"))
    assert rule
    rows = []
    for line in lines:
        if not line.strip():
            break
        rows.append([cell.strip() for cell in line.strip().split("  ") if cell.strip()])
    return rows


def test_the_best_picture_at_each_latency_with_what_one_bit_is_ahead(times, scores):
    said = front("--times", times, "--scores", scores)
    assert said.exit_code == 0, said.output
    assert table_under(said.output, "the best picture at a latency: PSNR on A") == [
        ["10.0", "one lmb, 30.00", "none", "none"],
        ["15.0", "one lmb, 30.00", "none", "one float, 30.12", "-0.12"],
        ["20.0", "two lmb, 30.50", "one float, 30.12", "+0.38", "one float, 30.12", "+0.38"],
        ["40.0", "two lmb, 30.50", "two bf16, 30.75", "-0.25", "one float, 30.12", "+0.38"],
    ]
    assert "note: a note" in said.output
    assert f"note: PSNR from {scores}" in said.output
    assert "99" not in said.output  # another SR factor's


def test_another_test_set_decides(times, scores):
    said = front("--times", times, "--scores", scores, "--test-set", "B")
    rows = table_under(said.output, "the best picture at a latency: PSNR on B")
    assert [row[:2] for row in rows] == [[ms, "one lmb, 25.50"] for ms in ("10.0", "15.0", "20.0", "40.0")]


def test_the_figures_come_back_and_need_no_scores_then(times, scores, tmp_path):
    written = tmp_path / "figures.json"
    first = front("--times", times, "--scores", scores, "--test-set", "B", "--output", written)
    again = front("--times", written)
    assert again.output == first.output
    assert read_front(written).to_json() == written.read_text()


def test_without_scores_there_are_latencies_only(times):
    said = front("--times", times)
    assert said.exit_code == 0, said.output
    assert "median ms" in said.output
    assert "the best picture" not in said.output


def test_a_network_without_a_score_is_noted_and_cannot_be_picked(times, scores):
    scores.write_text("\n".join(line for line in SCORES.splitlines() if not line.startswith("two,lmb")))
    said = front("--times", times, "--scores", scores)
    assert f"note: PSNR from {scores}; not there: two lmb" in said.output
    assert "two lmb, " not in said.output


def test_the_picture_names_what_it_shows(times, scores, tmp_path):
    picture = tmp_path / "front.svg"
    assert front("--times", times, "--scores", scores, "--picture", picture).exit_code == 0
    svg = picture.read_text(encoding="utf-8")
    assert "two lmb, binary, in this engine: 30.50 dB, 20.0 ms" in svg
    assert "one float, float, bf16, int8 by PyTorch and torchao: 30.12 dB, 20.0 ms" in svg
    assert "30.0 ms" not in svg  # the same network, uncompiled
    assert "latency of 12 x 16 pixels on one thread" in svg


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--times", "TIMES", "--rounds", "3"), "--rounds is not allowed with --times"),
        (("--times", "TIMES", "--smoke"), "--smoke is not allowed with --times"),
        (("--times", "nowhere.json"), "nowhere.json: cannot read the latencies"),
        (("--times", "SCORES"), "cannot read the latencies"),
        (("--times", "TIMES", "--picture", "a.png"), "--picture: 'a.png' is not allowed. Allowed: NAME.svg."),
        (("--times", "TIMES", "--picture", "SVG"), "--picture needs the PSNR of the networks of TIMES. Give --scores."),
        (("--suite", "smoke", "--picture", "SVG"), "--picture needs the PSNR of the networks of smoke. Give --scores."),
        (("--suite", "smoke", "--test-set", "A"), "--test-set needs the PSNR of the networks of smoke."),
        (("--times", "TIMES", "--picture", "SCORES"), "is not allowed. Allowed: NAME.svg"),
        (("--times", "TIMES", "--scores", "SCORES", "--test-set", "C"), "unknown test set 'C'. Allowed: A, B."),
        (("--test-set", "Set6"), "unknown test set 'Set6'. Did you mean 'Set5'?"),
        (("--scores", "nowhere.csv"), "nowhere.csv: cannot read the scores"),
        (("--scores", "TIMES"), "the column 'network' is missing"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_timed(arguments, message, times, scores, tmp_path, monkeypatch):
    monkeypatch.setattr("lmb_quant.bench.front.command.measure_front", None)
    paths = {"TIMES": times, "SCORES": scores, "SVG": tmp_path / "front.svg"}
    said = front(*(paths.get(word, word) for word in arguments))
    assert isinstance(said.exception, LMBError), said.output
    assert message.replace("TIMES", str(times)) in str(said.exception)
    assert not (tmp_path / "front.svg").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one,lmb,2,1,30,0.8,25", "line 7: one lmb x2 is there twice"),
        ("new,lmb,two,1,30,0.8,25", "line 7: upscale: 'two' is not allowed"),
        ("new,lmb,2,1,nan,0.8,25", "line 7: A PSNR, dB: 'nan' is not allowed"),
        ("new,lmb,2,1,30", "line 7: B PSNR, dB: None is not allowed"),
    ],
)
def test_scores_that_are_wrong(line, message, times, scores):
    scores.write_text(f"{SCORES}{line}\n")
    with pytest.raises(LMBError, match=message):
        find_scores(scores, "tiny")


def test_scores_of_another_suite_are_refused(times, scores):
    scores.write_text('network,method,upscale,"A PSNR, dB"\nthree,lmb,2,30\n')
    said = front("--times", times, "--scores", scores)
    assert "it has none of the networks of suite tiny, x2." in str(said.exception)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forms": [{"network": "one"}]}, r"forms\[0\]: the key 'method' is missing"),
        ({"machine": {}}, "machine: {} is not allowed"),
        ({"threads": "many"}, "threads: 'many' is not allowed"),
        ({"speed": 1}, "unknown key 'speed'"),
    ],
)
def test_latencies_that_are_wrong(change, message, times):
    times.write_text(json.dumps({**json.loads(times.read_text()), **change}))
    with pytest.raises(LMBError, match=message):
        read_front(times)


def test_the_suite_front_comes_with_the_scores_of_all_its_networks():
    scores, suite = find_scores(None, "front"), Suite.load("front")
    assert scores.test_sets == list(suite.data.test)
    assert {network for network, _, _ in scores.psnr} == set(suite.networks)
    assert {upscale for _, _, upscale in scores.psnr} == set(suite.upscale)
