# SPDX-License-Identifier: Apache-2.0
"""Colours of videos: the values that come out are those of the network on RGB, by the formulas of the standards."""

import av
import numpy as np
import pytest

from lmb_quant import LMBError
from lmb_quant.upscaling.video.pixels import colour_of, writing_format

from .conftest import (
    arrays_of,
    frame_of_planes,
    frames_of,
    photographs,
    planes_of,
    smooth,
    to_planes,
    to_rgb,
    write_clip,
)

LEVELS = 4 / 255  # Y, Cb and Cr are rounded twice, each worth up to two levels of blue


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6])
def test_matrix_range_and_bits_are_right_and_stay(run, twice, tmp_path, matrix, full, bits):
    kind = "yuv444p" if bits == 8 else "yuv444p10le"
    frame = frame_of_planes(to_planes(smooth(), matrix, full, bits), kind)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    run(write_clip(tmp_path / "a.mkv", [frame], kind=kind), tmp_path / "b.mkv", "ffv1")
    (large,) = frames_of(tmp_path / "b.mkv")
    assert (large.format.name, large.colorspace, large.color_range) == (kind, matrix, 2 if full else 1)
    peak = (1 << 8 * (1 if bits == 8 else 2)) - 1
    expected = twice((smooth() * peak).round().astype(np.uint8 if bits == 8 else np.uint16)) / peak
    np.testing.assert_allclose(to_rgb(planes_of(large), matrix, full, bits), expected, atol=LEVELS)


def test_a_wrong_matrix_or_range_would_show():
    right = to_rgb(to_planes(smooth(), 1, False, 8), 1, False, 8)
    for matrix, full in ((6, False), (1, True)):
        wrong = to_rgb(to_planes(smooth(), 1, False, 8), matrix, full, 8)
        assert np.abs(wrong - right).max() > 3 * LEVELS


def test_a_small_clip_that_says_nothing_is_bt601_of_limited_range_and_says_so_from_then_on(run, tmp_path):
    frame = frame_of_planes(to_planes(smooth(), 6, False, 8), "yuv444p")
    run(write_clip(tmp_path / "a.mkv", [frame], kind="yuv444p"), tmp_path / "b.mkv", "ffv1")
    (large,) = frames_of(tmp_path / "b.mkv")
    assert (large.colorspace, large.color_range) == (6, 1)
    expected = smooth().repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(to_rgb(planes_of(large), 6, False, 8), expected, atol=LEVELS)


def test_a_large_clip_that_says_nothing_is_bt709():
    assert colour_of(av.VideoFrame(16, 720, "yuv420p")).matrix == 1
    assert colour_of(av.VideoFrame(16, 576, "yuv420p")).matrix == 5


def test_an_unknown_matrix_is_refused():
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.colorspace = 8  # YCgCo
    with pytest.raises(LMBError, match=r"matrix 8 .* is not known\. Allowed: 1, 4, 5, 6, 7, 9\."):
        colour_of(frame)


@pytest.mark.parametrize("bits", [8, 10])
def test_h264_with_half_the_chroma(run, tmp_path, bits):
    kind = "yuv420p" if bits == 8 else "yuv420p10le"
    planes = to_planes(smooth((48, 32)), 1, False, bits)
    full = frame_of_planes(planes, kind.replace("420", "444"))
    full.colorspace, full.color_range = 1, 1
    write_clip(tmp_path / "a.mp4", [full.reformat(format=kind)], "libx264", kind, options={"crf": "0"})
    run(tmp_path / "a.mp4", tmp_path / "b.mp4", quality=100)
    (large,) = frames_of(tmp_path / "b.mp4")
    assert (large.format.name, large.width, large.height) == (kind, 96, 64)
    found = to_rgb(planes_of(large.reformat(format=kind.replace("420", "444"))), 1, False, bits)
    difference = np.abs(found - smooth((48, 32)).repeat(2, 0).repeat(2, 1))
    assert difference.max() < 13 / 255  # a step of blue is eight levels, and one of chroma twice as wide
    assert difference.mean() < 4 / 255


@pytest.mark.parametrize(
    ("encoder", "kind", "expected", "lost"),
    [
        ("libx264", "yuvj420p", "yuv420p", []),
        ("libx264", "yuv422p10le", "yuv422p10le", []),
        ("libx264", "bgr0", "yuv444p", []),
        ("libx264", "rgba", "yuv444p", ["transparency"]),
        ("libx264", "yuv420p12le", "yuv420p10le", ["12 bits (10 are)"]),
        ("libsvtav1", "yuv444p", "yuv420p", ["chroma of yuv444p (yuv420p)"]),
        ("ffv1", "yuva420p", "yuv420p", ["transparency"]),
        ("prores_ks", "yuv420p", "yuv422p10le", []),
    ],
)
def test_the_format_that_loses_least(encoder, kind, expected, lost):
    assert writing_format(encoder, av.VideoFormat(kind)) == (expected, lost)


def test_gray_stays_gray(run, tmp_path):
    gray = photographs(1)[0][..., :1].repeat(3, -1)
    frame = av.VideoFrame.from_ndarray(gray).reformat(format="gray", dst_color_range=2)
    run(write_clip(tmp_path / "a.mkv", [frame], kind="gray"), tmp_path / "b.mkv", "ffv1")
    (large,) = frames_of(tmp_path / "b.mkv")
    assert large.format.name == "gray"
    difference = arrays_of(tmp_path / "b.mkv")[0].astype(int) - gray.repeat(2, 0).repeat(2, 1)
    assert np.abs(difference).max() <= 2
