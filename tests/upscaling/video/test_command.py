# SPDX-License-Identifier: Apache-2.0
"""lmb-quant upscale with videos: what it refuses, what it says, and how it ends."""

import io
import os
import signal
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import lmb_quant as lmb
from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.batch import Rules
from lmb_quant.upscaling.inputs import find_jobs
from lmb_quant.upscaling.video.run import Encoding, run_videos

from ..conftest import Nearest
from .conftest import arrays_of, photographs, write_clip


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a.mkv", photographs(3))


def test_a_clip_becomes_what_upscale_returns(command, model_file, packed, clip, tmp_path):
    code, said = command("upscale", clip, "-o", tmp_path / "b.mkv", "--model", model_file, "--codec", "ffv1")
    assert code == 0, said
    assert "b.mkv: 48 x 32 pixels, 3 frames, " in said
    assert " frames a second; busy: decoding " in said
    assert "1 of 1 videos upscaled x2." in said
    for large, small in zip(arrays_of(tmp_path / "b.mkv"), photographs(3), strict=True):
        np.testing.assert_array_equal(large, lmb.upscale(packed, small))


def test_images_and_videos_into_a_folder_and_going_on(command, model_file, clip, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "c.png")
    old = write_clip(tmp_path / "d.avi", photographs(1), "mpeg4", "yuv420p", time_base=Fraction(1, 25))
    arguments = ("upscale", clip, old, tmp_path / "c.png", "-o", tmp_path / "out", "--model", model_file)
    code, said = command(*arguments)
    assert code == 0, said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mkv", "c.png", "d.mkv"]
    code, said = command(*arguments)
    assert code == 1
    assert "a.mkv: it exists and is not overwritten. Use --skip-existing to go on" in said
    code, said = command(*arguments, "--skip-existing")
    assert code == 0
    assert "0 of 0 videos upscaled x2, 2 were there already." in said


def test_one_that_fails_is_told_and_the_others_are_done(command, model_file, clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, said = command("upscale", tmp_path / "bad.mp4", clip, "-o", tmp_path / "out", "--model", model_file)
    assert code == 1
    assert f"error: {tmp_path / 'bad.mp4'}: it cannot be read: Invalid data" in said
    assert "1 of 2 videos upscaled" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mkv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "b.png"], "extension '.png' is not allowed for a video. Allowed: .mp4, .m4v, .mov, .mkv, .webm."),
        (["-o", "b.mkv", "--codec", "h265"], "--codec: unknown codec 'h265'. Did you mean 'h264'? Allowed: av1, ffv1"),
        (["-o", "b.mkv", "--codec", "ffv1", "--quality", "3"], "--quality: 3 is not allowed with --codec ffv1"),
        (["-o", "b.mkv", "--quality", "101"], "Invalid value for '--quality'"),
    ],
)
def test_what_is_refused_before_any_work(command, clip, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, said = command("upscale", clip, *arguments)
    assert code == 2
    assert message in said.replace("│ ", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_options_of_videos_for_images(command, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, said = command("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--quality", 50)
    assert code == 2
    assert "--codec, --quality: no input is a video" in said


def test_without_pyav(command, clip, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lmb_quant.upscaling.video.")]:
        if not name.endswith(".containers"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    code, said = command("upscale", clip, "-o", tmp_path / "b.mkv")
    assert code == 2
    assert "videos need PyAV, which cannot be imported" in said
    assert "To install it: pip install 'lmb-quant[video]'" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(clip, tmp_path, number):
    class Signalled(Nearest):
        frames = 0

        def forward(self, x):
            if x.shape[-1] == 24 and x.shape[-2] == 16:
                type(self).frames += 1
                if self.frames == 2:
                    os.kill(os.getpid(), number)
            return super().forward(x)

    jobs, _ = find_jobs([clip], tmp_path / "out.mp4")
    console = Console(file=io.StringIO(), width=200, record=True)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        run_videos(Upscaler(Signalled(3)), jobs, console, Rules(), Encoding())
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    said = console.export_text()
    assert f"stopped: by {number.name}." in said
    assert "0 of 1 videos upscaled" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_a_folder_s_videos_are_passed_over(command, model_file, clip, tmp_path):
    (tmp_path / "in").mkdir()
    clip.rename(tmp_path / "in" / "a.mkv")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "in" / "c.png")
    code, said = command("upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", model_file)
    assert code == 0
    assert "passed over: 1 .mkv" in said
