# SPDX-License-Identifier: Apache-2.0
"""Small clips, made and read by PyAV, and BT.601 and BT.709 by their formulas."""

from fractions import Fraction

import av
import numpy as np
import pytest

from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.video.clip import Encoding, upscale_clip

from ..conftest import Nearest

MILLISECOND = Fraction(1, 1000)
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}  # weights of red and blue, by matrix


def photographs(count=3, size=(24, 16)):
    """Random RGB frames ``(H, W, 3)``, uint8: no two alike."""
    width, height = size
    return [*np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)]


def smooth(size=(24, 16)):
    """A saturated RGB picture in [0, 1] without edges."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([x, y, 1 - x], -1)


def _units(full, bits):
    """What 1 is in Y, Cb and Cr, and where 0 is."""
    one, top = 1 << (bits - 8), (1 << bits) - 1
    steps = (top, top, top) if full else (219 * one, 224 * one, 224 * one)
    starts = (0 if full else 16 * one, 128 * one, 128 * one)
    return np.reshape(steps, (3, 1, 1)), np.reshape(starts, (3, 1, 1))


def to_planes(rgb, matrix, full, bits):
    """Y, Cb and Cr of RGB in [0, 1], by the formula; whole numbers ``(3, H, W)``."""
    red, blue = LUMA[matrix]
    steps, starts = _units(full, bits)
    luma = rgb @ [red, 1 - red - blue, blue]
    parts = np.stack([luma, (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)])
    return np.clip(np.round(parts * steps + starts), 0, (1 << bits) - 1).astype(np.uint8 if bits == 8 else np.uint16)


def to_rgb(planes, matrix, full, bits):
    """RGB in [0, 1] of Y, Cb and Cr, by the formula."""
    red, blue = LUMA[matrix]
    steps, starts = _units(full, bits)
    luma, cb, cr = (planes - starts) / steps
    r, b = luma + (2 - 2 * red) * cr, luma + (2 - 2 * blue) * cb
    return np.clip(np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], -1), 0, 1)


def frame_of_planes(planes, kind):
    """A frame of full chroma resolution with given numbers."""
    frame = av.VideoFrame(planes.shape[2], planes.shape[1], kind)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((values.shape[0], plane.line_size), np.uint8)
        rows[:, : values.shape[1] * values.itemsize] = values.view(np.uint8)
        plane.update(rows.tobytes())
    return frame


def planes_of(frame):
    dtype = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    rows = [np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1) for plane in frame.planes]
    return np.stack([row.view(dtype)[:, : frame.width] for row in rows])


def write_clip(
    path, frames, codec="ffv1", kind="bgr0", times=None, prepare=None, options=None, sound=None, time_base=MILLISECOND
):
    """Writes RGB arrays or frames; ``times`` in milliseconds, ``prepare`` gets the file and its video stream."""
    with av.open(str(path), "w") as file:
        frames = [each if isinstance(each, av.VideoFrame) else av.VideoFrame.from_ndarray(each) for each in frames]
        video = file.add_stream(codec, rate=25, time_base=time_base, options=options or {})
        video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, kind
        video.codec_context.colorspace = frames[0].colorspace
        video.codec_context.color_range = frames[0].color_range
        others = prepare(file, video) if prepare else []
        audio = file.add_stream(sound, rate=48000) if sound else None
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = (times or range(0, 40 * len(frames), 40))[number], MILLISECOND
            file.mux(video.encode(frame))
        for stream, packet in others:
            packet.stream = stream
            file.mux(packet)
        if audio is not None:
            tone = np.sin(np.arange(1024 * 6) / 20).astype(np.float32)
            kind = audio.codec_context.format.name
            for number in range(6):
                part = np.stack([tone[1024 * number : 1024 * (number + 1)]] * 2)
                samples = part if kind == "fltp" else (part.T.reshape(1, -1) * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format=kind, layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48000, 1024 * number, Fraction(1, 48000)
                file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
        file.mux(video.encode(None))
    return path


def frames_of(path):
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def arrays_of(path):
    return [frame.to_ndarray(format="rgb24") for frame in frames_of(path)]


def times_of(path):
    """In milliseconds."""
    return [round(frame.time * 1000) for frame in frames_of(path)]


def packets_of(path, kind):
    """What streams of a kind hold, in bytes."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux() if packet.stream.type == kind and packet.size]


@pytest.fixture(scope="session")
def twice():
    """Repeats each pixel, so that what comes out is known."""
    return Upscaler(Nearest(3))


@pytest.fixture
def run(twice):
    """Upscales a clip; returns what became of it."""

    def upscaled(source, target, codec=None, upscaler=twice, progress=lambda done, total: None, **options):
        return upscale_clip(
            upscaler,
            source,
            target,
            encoding=Encoding(codec, **options),
            max_pixels=1 << 20,
            threads=1,
            progress=progress,
        )

    return upscaled
