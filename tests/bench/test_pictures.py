# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/pictures.py: where networks are weak, drawn."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import lmb_quant as lmb
from lmb_quant.archs import LMBSRResNet
from lmb_quant.bench.pictures import PART, compare, worst_part
from lmb_quant.cli import app
from lmb_quant.integrations.basicsr.degradation import Degradation
from lmb_quant.upscaling import Upscaler


def tiny(upscale=2):
    return Upscaler(lmb.convert(LMBSRResNet(num_feat=8, num_block=1, upscale=upscale, recipe="lmb")).eval())


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    draws = np.random.default_rng(0)
    for name, strength in (("fine", 60), ("flat", 5), ("some", 20)):
        noise = draws.normal(0, strength, (100, 120, 3))
        Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_the_worst_part_is_where_the_error_is():
    reference = np.zeros((80, 64, 3), np.uint8)
    image = reference.copy()
    image[40:48, 16:24] = 200
    assert worst_part(image, reference, 8) == (40, 16)
    top, left = worst_part(image, reference, 32)
    assert top <= 40 <= top + 24
    assert left <= 16 <= left + 24


def test_rows_have_the_least_gain_first_and_the_table_all(images, tmp_path):
    table = compare({"one": tiny(), "two": tiny()}, images, tmp_path / "weak.png", rows=2)
    lines = [line.split() for line in table.splitlines()[4:8]]
    gains = [float(one) - float(bicubic) for _, bicubic, one, _ in lines[:3]]
    assert gains == sorted(gains)
    assert lines[3][0] == "mean"
    assert float(lines[3][1]) == pytest.approx(sum(float(line[1]) for line in lines[:3]) / 3, abs=0.011)
    with Image.open(tmp_path / "weak.png") as sheet:
        assert sheet.size == (4 * 228, 2 * 246)


def test_damage_lowers_the_psnr(images, tmp_path):
    def mean(degradation):
        table = compare({"one": tiny()}, images, tmp_path / "x.png", degradation=degradation, force=True)
        return float(table.split("mean")[1].split()[0])

    assert mean(Degradation(jpeg=(10, 10))) < mean(Degradation()) - 0.1


def test_bad_input_is_named(images, tmp_path):
    with pytest.raises(lmb.LMBError, match=r"a x2, b x3: they differ in their factor"):
        compare({"a": tiny(), "b": tiny(3)}, images, tmp_path / "x.png")
    (tmp_path / "there.png").write_bytes(b"mine")
    with pytest.raises(lmb.LMBError, match=r"there.png: it exists"):
        compare({"a": tiny()}, images, tmp_path / "there.png")
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    with pytest.raises(lmb.LMBError, match=r"^--images: '.*empty' holds no image"):
        compare({"a": tiny()}, tmp_path / "empty", tmp_path / "x.png")
    with pytest.raises(lmb.LMBError, match="there is no folder"):
        compare({"a": tiny()}, images, tmp_path / "nowhere" / "x.png")
    with pytest.raises(lmb.LMBError, match=r"x.what: extension '.what' is not allowed. Allowed: .png"):
        compare({"a": tiny()}, images, tmp_path / "x.what")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(images / "small.png")
    with pytest.raises(lmb.LMBError, match=rf"small.png: 40 x 40 pixels is too small. Allowed: {PART} x {PART}"):
        compare({"a": tiny()}, images, tmp_path / "x.png")


def test_the_command_draws_the_shipped_networks(images, tmp_path):
    output = tmp_path / "weak.png"
    command = ["bench", "pictures", "lmb_small_x4", "--images", str(images), "--rows", "1", "--jpeg", "60"]
    said = CliRunner().invoke(app, [*command, "-o", str(output)])
    assert said.exit_code == 0, said.output
    assert "lmb_small_x4" in said.output
    with Image.open(output) as sheet:
        assert sheet.size == (3 * 228, 246)


def test_two_networks_of_one_name_are_an_error():
    said = CliRunner().invoke(app, ["bench", "pictures", "lmb_small_x4", "a/lmb_small_x4.lmb", "-o", "x.png"])
    assert "'lmb_small_x4' names 2 networks" in str(said.exception)
    said = CliRunner().invoke(app, ["bench", "pictures", "lmb_small_x4", "a/bicubic.lmb", "-o", "x.png"])
    assert "'bicubic' is not allowed as a network's name" in str(said.exception)
