# SPDX-License-Identifier: Apache-2.0
"""lmb-quant upscale: files and folders, what it refuses, and how it ends."""

import errno
import io
import os
import re
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from skimage import data

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.upscaling import Upscaler, batch
from lmb_quant.upscaling.batch import run_jobs
from lmb_quant.upscaling.inputs import find_jobs

from .conftest import Nearest, make_network


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
    assert "1 of 1 images upscaled x2" in said
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
    assert "missing.png: it cannot be read: No such file or directory." in said
    assert "2 of 4 images upscaled" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.jpg", "c.webp"]


def test_an_existing_output_needs_force(command, model_file, folder, tmp_path):
    arguments = ("upscale", folder, "-o", tmp_path / "out", "--model", model_file)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    code, said = command(*arguments)
    assert code == 1
    assert "a.png: it exists and is not overwritten. Use --skip-existing to go on, --force to replace it" in said
    assert "2 of 3" in said
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    code, said = command(*arguments, "--force")
    assert code == 0, said
    assert mode_and_size(tmp_path / "out" / "a.png") == ("RGB", (46, 62))


def test_going_on(command, model_file, folder, tmp_path):
    arguments = ("upscale", folder, "-o", tmp_path / "out", "--model", model_file, "--skip-existing")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    code, said = command(*arguments)
    assert code == 0, said
    assert "2 of 2 images upscaled x2, 1 were there already." in said
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    code, said = command(*arguments)
    assert code == 0, said
    assert "0 of 0 images upscaled x2, 3 were there already." in said
    code, said = command(*arguments, "--force")
    assert code == 2
    assert "--force and --skip-existing exclude each other" in said


@pytest.fixture
def tree(folder):
    """Subfolders, and what is no image."""
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes((folder / "a.png").read_bytes())
    Image.new("RGB", (4, 3)).save(folder / "sub" / "deep" / "d.BMP")
    Image.new("RGB", (4, 3)).save(folder / "sub" / "deep" / "d.gif")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "sub" / "x.heic").touch()
    (folder / "more.txt").touch()
    (folder / ".hidden").touch()
    os.mkfifo(folder / "pipe.png")
    return folder


def test_subfolders_are_named_or_mirrored(command, model_file, tree, tmp_path):
    arguments = ("upscale", tree, "--model", model_file)
    code, said = command(*arguments, "-o", tmp_path / "flat")
    assert code == 0, said
    assert said.endswith(
        "passed over: 1 folder (--recursive takes them), 2 .txt, 1 dangling link, 1 pipe, socket or device"
    )
    code, said = command(*arguments, "-o", tree / "large", "--recursive")
    assert code == 0, said
    assert said.endswith("passed over: 2 .txt, 1 dangling link, 1 pipe, socket or device, 1 .heic")
    found = sorted(str(path.relative_to(tree / "large")) for path in (tree / "large").rglob("*") if path.is_file())
    assert found == ["a.png", "b.jpg", "c.webp", "sub/a.png", "sub/deep/d.gif.png", "sub/deep/d.png"]
    code, said = command(*arguments, "-o", tree / "large", "--recursive", "--skip-existing")
    assert code == 0, said  # the output, inside the input, is not upscaled again
    assert "0 of 0 images" in said


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file/sub/x", "'.*file' is a file. Allowed: a folder"),
        ("dangling/x", "'.*dangling' is a dangling link. Allowed: a folder"),
        ("x" * 300, "x: it cannot be reached: File name too long"),
        ("out/" + "y" * 252 + ".png", "its name has 256 bytes. Allowed: 255"),
    ],
)
def test_an_output_that_cannot_be_is_said_once_before_the_work(command, folder, tmp_path, output, message):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    source = folder / "a.png" if output.startswith("out") else folder
    code, said = command("upscale", source, "-o", tmp_path / output, "--model", "none")
    assert code == 2
    assert re.search(message, said)
    assert said.count("error:") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("delay", [0, 0.1])  # of the writer: more images are ready to be written by then
def test_a_disk_that_is_full_ends_the_run_with_one_error(folder, tmp_path, monkeypatch, delay):
    def full(path, data, durable=True):
        time.sleep(delay)
        raise LMBError(f"{path}: cannot be written: No space left on device.") from OSError(
            errno.ENOSPC, "No space left"
        )

    monkeypatch.setattr("lmb_quant.upscaling.writing.write_atomically", full)
    jobs, _ = find_jobs([folder], tmp_path)
    said = io.StringIO()
    with pytest.raises(LMBError, match=rf"No space left: {len(jobs) - 1} more images are not done\. With --skip"):
        run_jobs(Upscaler(Nearest(3)), jobs, Console(file=said, width=1000))
    assert said.getvalue().count("error:") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_between_complete_files(photograph, tmp_path, number):
    class Stopped(Nearest):
        runs = 0

        def forward(self, x):
            if x.shape[-1] == 23:
                self.runs += 1
                if self.runs == 3:
                    signal.raise_signal(number)
            return super().forward(x)

    (tmp_path / "in").mkdir()
    for name in "abcdef":
        photograph.save(tmp_path / "in" / f"{name}.png")
    jobs, _ = find_jobs([tmp_path / "in"], tmp_path / "out")
    said, before = io.StringIO(), signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        run_jobs(Upscaler(Stopped(3)), jobs, Console(file=said, width=1000))
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert f"stopped: by {number.name}. With --skip-existing the same command goes on." in said.getvalue()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.png", "b.png"][: len(names)]
    assert all(mode_and_size(tmp_path / "out" / name) == ("RGB", (46, 62)) for name in names)


def test_an_image_that_a_signal_finds_in_writing_is_reported(photograph, tmp_path, monkeypatch):
    write, wait, waits = batch.write_image, batch.wait, threading.Event()
    main = threading.main_thread().ident

    def waited(futures):
        waits.set()
        return wait(futures)

    def interrupted(target, file, *, small):
        assert waits.wait(60)
        signal.pthread_kill(main, signal.SIGINT)  # heard in the wait, or when that ends
        return write(target, file, small=small)

    monkeypatch.setattr(batch, "wait", waited)
    monkeypatch.setattr(batch, "write_image", interrupted)
    photograph.save(tmp_path / "a.png")
    jobs, _ = find_jobs([tmp_path / "a.png"], tmp_path / "out")
    said = io.StringIO()
    with pytest.raises(SystemExit):
        run_jobs(Upscaler(Nearest(3)), jobs, Console(file=said, width=1000))
    assert (tmp_path / "out" / "a.png").exists()
    assert "1 of 1 images upscaled" in said.getvalue()


def test_small_files_hold_the_same_pixels(command, model_file, photograph, tmp_path):
    photograph.save(tmp_path / "x.png")
    for name, options in (("fast.png", ()), ("small.png", ("--small",))):
        assert command("upscale", tmp_path / "x.png", "-o", tmp_path / name, "--model", model_file, *options)[0] == 0
    with Image.open(tmp_path / "fast.png") as fast, Image.open(tmp_path / "small.png") as small:
        np.testing.assert_array_equal(np.asarray(fast), np.asarray(small))
    assert (tmp_path / "small.png").stat().st_size < (tmp_path / "fast.png").stat().st_size


def test_int8_arithmetic(command, model_file, photograph, tmp_path):
    photograph.save(tmp_path / "x.png")
    hybrid = lmb.convert(make_network("hybrid"))
    lmb.save(hybrid, tmp_path / "hybrid.safetensors")
    output = tmp_path / "y.png"
    arguments = ("upscale", tmp_path / "x.png", "-o", output, "--arithmetic", "int8", "--model")
    assert command(*arguments, tmp_path / "hybrid.safetensors")[0] == 0
    lmb.set_real_arithmetic(hybrid, "int8")
    with Image.open(output) as upscaled:
        np.testing.assert_array_equal(np.asarray(upscaled), np.asarray(lmb.upscale(hybrid, photograph)))
    output.unlink()
    code, said = command(*arguments, model_file)
    assert code == 2
    assert "arithmetic: 'int8' is not allowed: the network has no real pointwise convolution. Allowed: float32." in said
    assert not output.exists()


def test_the_limit_of_pixels(command, model_file, photograph, tmp_path):
    photograph.save(tmp_path / "x.png")
    arguments = ("upscale", tmp_path / "x.png", "-o", tmp_path / "y.png", "--model", model_file)
    code, said = command(*arguments, "--max-pixels", 712)
    assert code == 1
    assert (
        "23 x 31 pixels are not allowed. Allowed: 712, against decompression bombs; --max-pixels 713 lifts it." in said
    )
    assert command(*arguments, "--max-pixels", 713)[0] == 0


def test_what_is_dropped_is_said(command, model_file, photograph, tmp_path):
    photograph.save(tmp_path / "x.jpg", xmp=b"<x/>", icc_profile=b"\0" * 16 + b"GRAY" + bytes(200))
    code, said = command("upscale", tmp_path / "x.jpg", "-o", tmp_path / "y.png", "--model", model_file)
    assert code == 0, said
    assert "y.png: 46 x 62 pixels" in said
    assert "not kept: colour profile (of GRAY, the pixels are RGB)" in said


def test_files_of_other_kinds_are_refused_by_their_own_name(command, model_file, folder, tmp_path):
    code, said = command("upscale", folder / "notes.txt", folder / "a.png", "-o", tmp_path, "--model", model_file)
    assert code == 1
    assert f"{folder / 'notes.txt'}: extension '.txt' is not read. Allowed: .png, .jpg" in said
    assert "1 of 2 images" in said


def test_names_in_another_encoding(command, model_file, photograph, tmp_path):
    name = os.fsdecode(b"in-\xff-[b]\x1b.png")
    photograph.save(tmp_path / name)
    code, said = command("upscale", tmp_path / name, "-o", tmp_path / "out", "--model", model_file)
    assert code == 0, said
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


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
        (["in/b.jpg", "in/a.png"], "in/x.png", "is a file for 2 inputs. Allowed: a folder"),
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
    assert "lmb_large_x4" in said


def test_a_model_that_is_none(command, folder, tmp_path):
    code, said = command("upscale", folder, "-o", tmp_path / "out", "--model", folder / "a.png")
    assert code == 2
    assert "safetensors" in said


def test_a_link_to_an_image_beside_it_is_an_image_of_its_own(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("z.png", "z.bmp"):
        Image.new("RGB", (4, 3)).save(folder / name)
    (folder / "a.png").symlink_to("z.png")
    (tmp_path / "also").symlink_to(folder)
    jobs, _ = find_jobs([folder, folder / "z.png", tmp_path / "also"], tmp_path / "out")
    assert [(job.source.name, job.target.name) for job in jobs] == [
        ("a.png", "a.png"), ("z.bmp", "z.bmp.png"), ("z.png", "z.png"),
    ]  # fmt: skip
