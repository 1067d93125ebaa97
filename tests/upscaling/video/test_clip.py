# SPDX-License-Identifier: Apache-2.0
"""Clips: frames, times, what is carried over, and what is refused or told."""

import contextlib
import io
import os
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from torch import nn

from lmb_quant import LMBError
from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.video.containers import CONTAINERS
from lmb_quant.upscaling.video.pixels import Reader
from lmb_quant.upscaling.video.target import Target

from ..conftest import Nearest
from .conftest import MILLISECOND, arrays_of, frames_of, packets_of, photographs, times_of, write_clip

VARIABLE = [0, 10, 50, 51, 200]


def text_packet(words, start, duration):
    packet = av.Packet(words.encode())
    packet.pts = packet.dts = start
    packet.duration = duration
    return packet


@pytest.mark.parametrize("count", [1, 5])
def test_frames_are_what_the_network_makes_at_the_same_times(run, twice, tmp_path, count):
    frames = photographs(count)
    seen = []
    result = run(
        write_clip(tmp_path / "a.mkv", frames, times=VARIABLE[:count]),
        tmp_path / "b.mkv",
        "ffv1",
        progress=lambda done, total: seen.append(done),
    )
    for large, small in zip(arrays_of(tmp_path / "b.mkv"), frames, strict=True):
        np.testing.assert_array_equal(large, twice(small))
    assert times_of(tmp_path / "b.mkv") == VARIABLE[:count]
    assert (result.frames, result.size, result.lost, result.damages) == (count, (48, 32), [], [])
    assert seen[-1] == count
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_times_of_reordered_frames(run, tmp_path, ending):
    times = [0, 40, 75, 120, 160, 240, 250, 300, 330, 400]
    clip = write_clip(tmp_path / f"a{ending}", photographs(10), "libx264", "yuv420p", times, options={"bf": "3"})
    run(clip, tmp_path / f"b{ending}")
    assert times_of(tmp_path / f"b{ending}") == times_of(clip) == times
    with av.open(str(clip)) as old, av.open(str(tmp_path / f"b{ending}")) as new:
        assert new.streams.video[0].duration == old.streams.video[0].duration or ending == ".mkv"


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1", "prores"])
def test_each_codec(run, tmp_path, codec):
    flat = [np.full((32, 48, 3), level, np.uint8) for level in (60, 120, 180)]
    ending = ".mov" if codec == "prores" else ".mkv"
    run(write_clip(tmp_path / "a.mkv", flat, kind="bgr0", times=[0, 40, 90]), tmp_path / f"b{ending}", codec)
    levels = [array.mean() for array in arrays_of(tmp_path / f"b{ending}")]
    np.testing.assert_allclose(levels, [60, 120, 180], atol=2)
    assert times_of(tmp_path / f"b{ending}") == [0, 40, 90]


def test_quality_decides_the_size(run, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", photographs(3))
    sizes = []
    for quality in (10, 65, 90):
        run(clip, tmp_path / f"{quality}.mp4", quality=quality)
        sizes.append((tmp_path / f"{quality}.mp4").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


def test_sound_subtitles_chapters_attachments_and_words_are_carried_over(run, tmp_path):
    def prepare(file, video):
        subtitles = file.add_mux_stream("subrip", time_base=MILLISECOND)
        subtitles.metadata["language"] = "deu"
        file.add_attachment("font.ttf", "font/ttf", b"glyphs")
        file.metadata["title"] = "A clip"
        video.metadata["language"] = "eng"
        chapter = {"id": 1, "start": 0, "end": 80, "time_base": MILLISECOND, "metadata": {"title": "One"}}
        file.set_chapters([chapter, chapter | {"id": 2, "start": 80, "end": 120, "metadata": {"title": "Two"}}])
        return [(subtitles, text_packet("Guten Tag", 10, 60))]

    clip = write_clip(tmp_path / "a.mkv", photographs(3), prepare=prepare, sound="flac")
    result = run(clip, tmp_path / "b.mkv", "ffv1")
    assert result.lost == []
    assert packets_of(tmp_path / "b.mkv", "audio") == packets_of(clip, "audio") != []
    assert packets_of(tmp_path / "b.mkv", "subtitle") == [b"Guten Tag"]
    with av.open(str(clip)) as old, av.open(str(tmp_path / "b.mkv")) as new:
        assert [chapter["metadata"] for chapter in new.chapters()] == [{"title": "One"}, {"title": "Two"}]
        assert [chapter["start"] for chapter in new.chapters()] == [chapter["start"] for chapter in old.chapters()]
        assert new.metadata["title"] == "A clip"
        assert [(each.type, each.language) for each in new.streams] == [
            ("video", "eng"),
            ("subtitle", "deu"),
            ("audio", None),
            ("attachment", None),
        ]
        assert new.streams[3].data == b"glyphs"


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("degrees", [90, 180])
def test_rotation_is_carried_over(run, tmp_path, ending, degrees):
    def prepare(file, video):
        video.set_display_rotation(degrees)
        return []

    clip = write_clip(tmp_path / f"a{ending}", photographs(2), "libx264", "yuv420p", prepare=prepare)
    run(clip, tmp_path / f"b{ending}")
    rotations = [frames_of(tmp_path / f"{name}{ending}")[0].rotation for name in "ab"]
    assert rotations[1] == rotations[0] != 0


def test_the_shape_of_pixels_is_carried_over(run, tmp_path):
    def prepare(file, video):
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        return []

    run(write_clip(tmp_path / "a.mp4", photographs(1), "libx264", "yuv420p", prepare=prepare), tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_what_a_container_cannot_hold_is_an_error_before_anything_is_computed(run, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", photographs(1), sound="pcm_s16le")
    with pytest.raises(
        LMBError, match=r"b\.webm: webm does not hold stream 1, audio \(pcm_s16le\) .* Allowed: .*\.mkv"
    ):
        run(clip, tmp_path / "b.webm")
    with pytest.raises(LMBError, match=r"c\.webm: webm holds no libx264\. Allowed: .*\.mp4"):
        run(clip, tmp_path / "c.webm", "h264")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_a_second_video_is_told(run, tmp_path):
    def prepare(file, video):
        return [
            (file.add_mux_stream("mjpeg", width=8, height=8, time_base=MILLISECOND), text_packet("no picture", 0, 1))
        ]

    clip = write_clip(tmp_path / "a.mkv", photographs(1), prepare=prepare)
    assert run(clip, tmp_path / "b.mkv", "ffv1").lost == ["stream 1, video (mjpeg)"]


def test_the_cover_picture_is_carried_over_where_it_can_be_one(run, tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "JPEG")

    def prepare(file, video):
        cover = file.add_mux_stream("mjpeg", width=8, height=8, time_base=MILLISECOND)
        cover.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(picture.getvalue())
        packet.pts = packet.dts = 0
        return [(cover, packet)]

    clip = write_clip(tmp_path / "a.mp4", photographs(1), "libx264", "yuv420p", prepare=prepare)
    assert run(clip, tmp_path / "b.mp4").lost == []
    assert picture.getvalue() in packets_of(tmp_path / "b.mp4", "video")
    assert run(clip, tmp_path / "b.mkv").lost == ["the cover picture"]


def damage(path, part=0.5, length=200):
    contents = bytearray(path.read_bytes())
    start = int(len(contents) * part)
    contents[start : start + length] = bytes(length)
    path.write_bytes(contents)


def test_a_damaged_stream_is_told_and_the_rest_keeps_its_times(run, tmp_path):
    options = {"g": "2", "bf": "0", "crf": "1"}
    clip = write_clip(tmp_path / "a.mkv", photographs(8, (96, 64)), "libx264", "yuv420p", options=options)
    damage(clip, 0.4, 3000)
    result = run(clip, tmp_path / "b.mkv", "ffv1")
    assert result.damages
    times = times_of(tmp_path / "b.mkv")
    assert len(times) == result.frames >= 4
    assert set(times) <= set(range(0, 320, 40))
    assert times[-1] == 280


def test_a_file_that_ends_early_gives_what_is_there(run, twice, tmp_path):
    frames = photographs(6, (64, 48))
    clip = write_clip(tmp_path / "a.mkv", frames, times=range(0, 6000, 1000))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    result = run(clip, tmp_path / "b.mkv", "ffv1")
    assert result.damages == ["it ends at 2.0 s, and its header says 5.0 s"]
    assert result.frames == 3
    np.testing.assert_array_equal(arrays_of(tmp_path / "b.mkv")[2], twice(frames[2]))


def test_a_file_without_its_index(run, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", photographs(3), "libx264", "yuv420p")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 3])
    with pytest.raises(LMBError, match=r"a\.mp4: it cannot be read: Invalid data .*moov atom not found"):
        run(clip, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_nothing_that_can_be_decoded(run, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", photographs(1, (64, 48)), "libx264", "yuv420p")
    damage(clip, 0.2, clip.stat().st_size)
    with pytest.raises(LMBError, match=r"a\.mkv: no frame of its video can be decoded"):
        run(clip, tmp_path / "b.mkv")


@pytest.mark.parametrize("contents", [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\nother.ts\n"])
def test_what_is_no_video(run, tmp_path, contents):
    (tmp_path / "a.mp4").write_bytes(contents)
    with pytest.raises(LMBError, match=r"a\.mp4: it cannot be read: Invalid data"):
        run(tmp_path / "a.mp4", tmp_path / "b.mp4")


def test_a_missing_file_and_a_name_like_an_address(run, tmp_path):
    with pytest.raises(LMBError, match=r"none\.mp4: it cannot be read: No such file"):
        run(tmp_path / "none.mp4", tmp_path / "b.mp4")
    clip = write_clip(tmp_path / "a.mkv", photographs(1)).rename(tmp_path / "http:a.mkv")
    assert run(clip, tmp_path / "b:c.mkv", "ffv1").frames == 1


def test_a_pipe(run, tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(LMBError, match=r"a\.mp4: it is a folder, pipe or device\. Allowed: a file\."):
        run(tmp_path / "a.mp4", tmp_path / "b.mp4")


def test_interlaced_frames_are_told(run, tmp_path):
    options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}
    clip = write_clip(tmp_path / "a.mkv", photographs(2, (64, 64)), "libx264", "yuv420p", options=options)
    with pytest.warns(UserWarning, match=r"a\.mkv: its frames are interlaced"):
        run(clip, tmp_path / "b.mkv")


def test_sound_alone(run, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", photographs(1), sound="flac")
    with av.open(str(clip)) as old, av.open(str(tmp_path / "sound.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    with pytest.raises(LMBError, match=r"sound\.mkv: it has no video track, but audio\. Allowed: a file with one\."):
        run(tmp_path / "sound.mkv", tmp_path / "b.mkv")


def test_odd_sizes(run, tmp_path):
    frames = photographs(2, (33, 21))
    write_clip(tmp_path / "a.mkv", frames, kind="yuv420p")
    run(tmp_path / "a.mkv", tmp_path / "b.mp4")
    assert arrays_of(tmp_path / "b.mp4")[0].shape == (42, 66, 3)
    three = Upscaler(Nearest(3, upscale=3))
    with pytest.raises(LMBError, match=r"c\.mp4: libx264, 99 x 63 pixels of yuv420p: .*width not divisible by 2"):
        run(tmp_path / "a.mkv", tmp_path / "c.mp4", upscaler=three)
    run(tmp_path / "a.mkv", tmp_path / "c.mkv", "ffv1", upscaler=three)
    assert arrays_of(tmp_path / "c.mkv")[1].shape == (63, 99, 3)


def test_frames_of_two_sizes(run, tmp_path):
    parts = [
        write_clip(
            tmp_path / f"{n}.ts", photographs(3, size), "mpeg2video", "yuv420p", time_base=Fraction(1, 25)
        ).read_bytes()
        for n, size in enumerate([(48, 32), (64, 48)])
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    with pytest.raises(LMBError, match=r"a frame has 64 x 48 pixels after some of 48 x 32\. Allowed: one size\."):
        run(tmp_path / "a.ts", tmp_path / "b.mkv")


def test_frames_that_are_too_large(run, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [np.zeros((1025, 1024, 3), np.uint8)])
    with pytest.raises(LMBError, match=r"1024 x 1025 are 1,049,600 pixels\. Allowed: 1,048,576; --max-pixels lifts it"):
        run(clip, tmp_path / "b.mkv")


def test_what_fails_in_between_leaves_what_was_there(run, tmp_path):
    class Failing(nn.Module):
        def forward(self, x):
            if x.shape[-2:] == (16, 24) and float(x.mean()) > 0.9:
                raise RuntimeError("out of luck")
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    clip = write_clip(tmp_path / "a.mkv", [*photographs(3), np.full((16, 24, 3), (250, 251, 252), np.uint8)])
    (tmp_path / "b.mkv").write_bytes(b"before")
    with pytest.raises(LMBError, match="out of luck"):
        run(clip, tmp_path / "b.mkv", "ffv1", upscaler=Upscaler(Failing()))
    assert (tmp_path / "b.mkv").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk(run, tmp_path, monkeypatch):
    full = contextlib.nullcontext("/dev/full")
    monkeypatch.setattr("lmb_quant.upscaling.video.clip.path_written_atomically", lambda path: full)
    clip = write_clip(tmp_path / "a.mkv", photographs(2))
    with pytest.raises(LMBError, match=r"b\.mkv: cannot be written: No space left on device"):
        run(clip, tmp_path / "b.mkv", "ffv1")


def test_decode_network_and_encode_overlap(run, tmp_path, monkeypatch):
    """The network waits for a second frame to be decoded, and the first is encoded once the network has the second."""
    decoded, begun = threading.Semaphore(0), threading.Event()
    decode, encode = Reader.__call__, Target.add

    def decoding(self, frame):
        decoded.release()
        return decode(self, frame)

    def encoding(self, packets, pixels, like):
        assert begun.wait(10)
        encode(self, packets, pixels, like)

    class Waiting(Nearest):
        frames = 0

        def forward(self, x):
            if x.shape[-2:] == (16, 24):
                type(self).frames += 1
                if self.frames == 1:
                    assert all(decoded.acquire(timeout=10) for _ in range(2))
                else:
                    begun.set()
            return super().forward(x)

    monkeypatch.setattr(Reader, "__call__", decoding)
    monkeypatch.setattr(Target, "add", encoding)
    clip = write_clip(tmp_path / "a.mkv", photographs(4))
    assert run(clip, tmp_path / "b.mkv", "ffv1", upscaler=Upscaler(Waiting(3))).frames == 4


def test_frames_computed_at_once_stay_in_order(run, twice, tmp_path, monkeypatch):
    """The first frame is done only after the third has begun."""
    third = threading.Event()
    frames = photographs(5)

    def compute(pixels):
        if np.array_equal(pixels, frames[0]):
            assert third.wait(10)
        if np.array_equal(pixels, frames[2]):
            third.set()
        return twice(pixels)

    many = Upscaler(Nearest(3))
    monkeypatch.setattr(many, "for_many", lambda pixels: (compute, 3))
    result = run(write_clip(tmp_path / "a.mkv", frames), tmp_path / "b.mkv", "ffv1", upscaler=many)
    assert result.frames == 5
    for large, small in zip(arrays_of(tmp_path / "b.mkv"), frames, strict=True):
        np.testing.assert_array_equal(large, twice(small))


@pytest.mark.parametrize("ending", [*CONTAINERS])
def test_each_container(run, tmp_path, ending):
    result = run(write_clip(tmp_path / "a.mkv", photographs(2)), tmp_path / f"b{ending}")
    assert (result.frames, times_of(tmp_path / f"b{ending}")) == (2, [0, 40])
