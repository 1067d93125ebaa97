# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/zoo: each network that comes with the package, its card, and what it makes of a photograph."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.budget import best_within, milliseconds_of_all
from lmb_quant.cli import app
from lmb_quant.modules import packed_convs
from lmb_quant.zoo import DEFAULT, card_text, listing, network_file, network_names, parse_card

GOLDEN = Path(__file__).parent / "data"


def photograph():
    """An LR photograph, 48 x 64: scikit-image's chelsea (CC0), every eighth pixel of means of 8 x 8."""
    image = Image.open(str(files("skimage").joinpath("data", "chelsea.png"))).convert("RGB")
    return np.asarray(image.crop((90, 40, 346, 232)).resize((64, 48), Image.Resampling.BOX))


def test_the_default_network_is_there():
    assert DEFAULT in network_names()


@pytest.mark.parametrize("name", network_names())
def test_card_and_file_agree(name):
    card = parse_card(card_text(name), name)
    with network_file(name) as path:
        assert card.bytes == path.stat().st_size
    network = lmb.from_pretrained(name)
    assert card.name == name
    assert card.arch == type(network).__name__
    assert card.upscale == network.upscale
    assert lmb.recipe_of(network).metadata.name == card.recipe
    assert list(packed_convs(network))
    assert card.data_licence
    assert card.weaknesses
    assert set(card.scores) == set(card.bicubic)
    for test, score in card.scores.items():
        assert score.psnr > card.bicubic[test].psnr
    assert all(commit != "not recorded" for commit in card.training.commits)


@pytest.mark.parametrize("name", network_names())
def test_a_photograph_becomes_the_golden_image(name):
    upscaled = lmb.upscale(lmb.from_pretrained(name), photograph())
    golden = np.asarray(Image.open(GOLDEN / f"{name}.png"))
    assert upscaled.shape == golden.shape
    assert np.abs(upscaled.astype(int) - golden.astype(int)).max() <= 1


def test_unknown_networks_are_refused_by_the_nearest_name():
    for read in (lmb.from_pretrained, card_text):
        with pytest.raises(LMBError, match=rf"unknown network '{DEFAULT}4'\. Did you mean '{DEFAULT}'"):
            read(f"{DEFAULT}4")


def test_zoo_lists_the_networks_and_shows_a_card():
    listed = CliRunner().invoke(app, ["zoo"])
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in network_names())
    card = CliRunner().invoke(app, ["zoo", DEFAULT])
    assert card.stdout.strip() == card_text(DEFAULT).strip()
    assert CliRunner().invoke(app, ["zoo", "srgan"]).exit_code != 0


def test_upscale_takes_the_default_network(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "small.png")
    command = ["upscale", str(tmp_path / "small.png"), "-o", str(tmp_path / "large.png")]
    assert CliRunner().invoke(app, command).exit_code == 0
    upscaled = lmb.upscale(lmb.from_pretrained(DEFAULT), photograph())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "large.png")), upscaled)


def test_networks_are_for_inference():
    network = lmb.from_pretrained(DEFAULT)
    assert not network.training
    with torch.no_grad():
        assert network(torch.rand(1, 3, 8, 9)).shape == (1, 3, 32, 36)


def test_a_budget_chooses_the_best_network_that_is_fast_enough(monkeypatch):
    milliseconds = dict.fromkeys(network_names(), 10.0)
    monkeypatch.setattr(
        "lmb_quant.budget.milliseconds_per_megapixel", lambda name, threads, arithmetic: milliseconds[name]
    )
    scores = {name: parse_card(card_text(name), name).scores["B100"].psnr for name in network_names()}
    ranked = sorted((name for name in scores if name.endswith("x4")), key=scores.__getitem__, reverse=True)
    assert best_within(20) == (ranked[0], 10)
    milliseconds[ranked[0]] = 30
    assert best_within(20) == (ranked[1], 10)
    assert best_within(20, upscale=3)[0].endswith("x3")
    assert best_within(20, upscale=3, arithmetic="int8")[0] == "lmb_base_x3"  # the others have no pointwise convolution
    with pytest.raises(LMBError, match=r"unknown arithmetic 'int4'"):
        best_within(20, arithmetic="int4")
    with pytest.raises(LMBError, match=r"no x4 network makes a megapixel in 5 ms here\. The fastest is .*, in 10 ms"):
        best_within(5)
    with pytest.raises(LMBError, match=r"SR factor: 5 is not allowed\. Allowed: 2, 3, 4"):
        best_within(20, upscale=5)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(LMBError, match=rf"budget: {wrong!r} is not allowed\. Allowed: milliseconds above 0"):
            best_within(wrong)


def test_the_commands_take_a_budget_and_measure(tmp_path, monkeypatch):
    monkeypatch.setattr("lmb_quant.budget._SIZE", (12, 16))
    Image.fromarray(photograph()).save(tmp_path / "small.png")
    command = ["upscale", str(tmp_path / "small.png"), "-o", str(tmp_path / "large.png"), "--budget", "1e9"]
    said = CliRunner().invoke(app, [*command, "--factor", "2"])
    assert said.exit_code == 0
    assert re.search(r"\w+_x2: \d+ ms a megapixel", said.output)
    with Image.open(tmp_path / "large.png") as upscaled:
        assert upscaled.size == (128, 96)
    assert CliRunner().invoke(app, [*command, "--model", DEFAULT]).exit_code != 0
    assert CliRunner().invoke(app, [*command[:4], "--factor", "2"]).exit_code != 0
    said = CliRunner().invoke(app, [*command, "--arithmetic", "int8", "--force"])
    assert re.search(r"lmb_best_x4: \d+ ms a megapixel", said.output)
    monkeypatch.setattr("lmb_quant.budget.network_names", lambda: (DEFAULT, "lmb_vdsr_x4"))
    listed = CliRunner().invoke(app, ["zoo", "--time", "--threads", "1"], env={"COLUMNS": "200"})
    assert "ms/MP" in listed.stdout
    times = {arithmetic: milliseconds_of_all(1, arithmetic) for arithmetic in ("float32", "int8")}
    assert (set(times["float32"]), set(times["int8"])) == ({DEFAULT, "lmb_vdsr_x4"}, {DEFAULT})
    lines = listing(times["int8"]).splitlines()
    assert len(lines) > len(network_names())
    assert any(DEFAULT in line and f" {times['int8'][DEFAULT]:.0f} " in line for line in lines)
    assert CliRunner().invoke(app, ["zoo", "--arithmetic", "int8"]).exit_code != 0
