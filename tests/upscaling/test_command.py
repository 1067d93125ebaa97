# SPDX-License-Identifier: Apache-2.0
"""lmb-quant upscale: files and folders, what it refuses, and how it ends."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

import lmb_quant as lmb

from .conftest import make_network


@pytest.fixture
def photograph():
    return Image.fromarray(data.astronaut()).resize((23, 31))


@pytest.fixture
def folder(tmp_path, photograph):
    """Three images of different kinds."""
    path = tmp_path / "in"
    path.mkdir()
    photograph.save(path / "a.png")
    photograph.convert("L").save(path / "b.jpg")
    photograph.convert("RGBA").save(path / "c.webp", lossless=True)
    (path / "notes.txt").write_text("no image")
    return path


def mode_and_size(path):
    with Image.open(path) as image:
        return image.mode, image.size


def test_a_file_becomes_what_upscale_returns(command, model_file, packed, photograph, tmp_path):
    photograph.save(tmp_path / "in.png")
    code, said = command("upscale", tmp_path / "in.png", "-o", tmp_path / "out.tif", "--model", model_file, "--tile", 9)
    assert code == 0, said
    assert "out.tif: 46 x 62 pixels" in said
    assert "1 of 1 images enlarged x2" in said
    expected = np.asarray(lmb.upscale(packed, photograph))
    with Image.open(tmp_path / "out.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_folder(command, model_file, folder, tmp_path):
    code, said = command("upscale", folder, "-o", tmp_path / "new" / "out", "--model", model_file, "--threads", 1)
    assert code == 0, said
    assert {path.name: mode_and_size(path) for path in (tmp_path / "new" / "out").iterdir()} == {
        "a.png": ("RGB", (46, 62)),
        "b.jpg": ("L", (46, 62)),
        "c.webp": ("RGB", (46, 62)),  # WebP leaves out an alpha that is opaque
    }


def test_one_unreadable_file_is_reported_and_the_others_are_done(command, model_file, folder, tmp_path):
    (folder / "a.png").write_bytes(b"no image")
    code, said = command("upscale", folder, folder / "missing.png", "-o", tmp_path / "out", "--model", model_file)
    assert code == 1
    assert "error: " in said
    assert f"{folder / 'a.png'}: it cannot be read" in said
    assert "missing.png: it cannot be read" in said
    assert "2 of 4 images enlarged" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.jpg", "c.webp"]


def test_an_existing_output_needs_force(command, model_file, folder, tmp_path):
    arguments = ("upscale", folder, "-o", tmp_path / "out", "--model", model_file)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    code, said = command(*arguments)
    assert code == 1
    assert "a.png: it exists and is not overwritten. Use --force" in said
    assert "2 of 3" in said
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    code, said = command(*arguments, "--force")
    assert code == 0, said
    assert mode_and_size(tmp_path / "out" / "a.png") == ("RGB", (46, 62))


def test_what_the_format_cannot_hold_is_reported(command, model_file, photograph, tmp_path):
    transparent = photograph.convert("RGBA")
    transparent.putalpha(100)
    transparent.save(tmp_path / "x.png")
    code, said = command("upscale", tmp_path / "x.png", "-o", tmp_path / "x.jpg", "--model", model_file)
    assert code == 1
    assert "JPEG holds no RGBA of 8 bits. Allowed: .png" in said
    assert not (tmp_path / "x.jpg").exists()


def test_a_warning_is_one_line(command, photograph, tmp_path):
    recipe = lmb.Recipe.load("lmb").to_dict()
    recipe["scheme"]["activation"]["window"] = "global"
    lmb.save(lmb.convert(make_network(recipe=recipe)), tmp_path / "net.safetensors")
    photograph.resize((60, 60)).save(tmp_path / "x.png")
    arguments = ("-o", tmp_path / "y.png", "--model", tmp_path / "net.safetensors", "--tile", 8)
    code, said = command("upscale", tmp_path / "x.png", *arguments)
    assert code == 0
    assert "warning: the network sees more of the image" in said


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["in/a.png"], "in/a.png", "is an input"),
        (["in"], "in", "is an input"),
        (["in/a.png"], "in", "is an input"),
        (["in/b.jpg", "in/a.png"], "in/x.png", "is a file for 2 images. Allowed: a folder"),
        (["in/a.png"], "x.gif", "extension '.gif' is not allowed"),
        (["in"], "in/notes.txt", "is a file without a known extension"),
        (["in/a.png", "other/a.png"], "out", "would both become"),
        (["empty"], "out", "holds no image. Allowed: .png"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(command, folder, tmp_path, inputs, output, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes((folder / "a.png").read_bytes())
    code, said = command("upscale", *(tmp_path / name for name in inputs), "-o", tmp_path / output, "--model", "none")
    assert code == 2
    assert message in said
    assert not (tmp_path / "out").exists()


def test_an_image_named_twice_is_done_once(command, model_file, folder, tmp_path):
    code, said = command("upscale", folder, folder / "a.png", "-o", tmp_path / "out", "--model", model_file)
    assert code == 0
    assert "3 of 3" in said


def test_a_network_that_is_neither_name_nor_file_is_refused(command, folder, tmp_path):
    code, said = command("upscale", folder / "a.png", "-o", tmp_path / "out.png", "--model", "lmb_tiny_x2")
    assert code == 2
    assert "--model: 'lmb_tiny_x2' is no file. Allowed: a file of lmb_quant.save(), or a name: " in said
    assert "lmb_srresnet_x4" in said


def test_a_model_that_is_none(command, folder, tmp_path):
    code, said = command("upscale", folder, "-o", tmp_path / "out", "--model", folder / "a.png")
    assert code == 2
    assert "safetensors" in said
