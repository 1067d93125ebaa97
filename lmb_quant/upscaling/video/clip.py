# SPDX-License-Identifier: Apache-2.0
"""One video through a network: while frames are computed, the next are decoded and those before are encoded."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lmb_quant.errors import LMBError
from lmb_quant.files import path_written_atomically

from ..upscaler import Upscaler
from ._pyav import av
from .containers import container_of
from .encoders import encoder_of
from .pixels import Reader
from .source import Source, Step
from .target import Target

_WAITING = 4
"""Frames that are decoded ahead, and that wait to be encoded, at most."""

Progress = Callable[[int, int | None], None]
"""Called with the frames that are done and, where it is known, all of them."""


@dataclass(frozen=True)
class Encoding:
    """How videos are written.

    ``codec`` is a name of :data:`.encoders.CODECS`, None for the container's; ``quality`` goes from 0 to 100, None for
    the default; ``small`` spends time to make files small.
    """

    codec: str | None = None
    quality: int | None = None
    small: bool = False


def check_encoding(target: Path, encoding: Encoding) -> None:
    """Checks, before any work, that a file can be written in a way.

    Raises:
        LMBError: If its extension is not known, or the codec is not, or has no quality and one is named.
    """
    encoder_of(encoding.codec or container_of(target).codec, encoding.quality)


@dataclass
class Result:
    """What became of a video.

    ``seconds`` are those of the whole, ``decoding``, ``computing`` and ``encoding`` those that each of the three was
    busy, of frames that are computed at once the mean; they overlap. ``lost`` is what the new file does not have,
    ``damages`` what was wrong with the old one.
    """

    size: tuple[int, int] = (0, 0)
    frames: int = 0
    seconds: float = 0.0
    decoding: float = 0.0
    computing: float = 0.0
    encoding: float = 0.0
    lost: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Adds the time of a block to a stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)


def upscale_clip(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    *,
    encoding: Encoding,
    max_pixels: int,
    threads: int | None,
    progress: Progress,
) -> Result:
    """Upscales a video file.

    Args:
        upscaler: The network.
        source: The file.
        target: What it becomes; there once it is complete. An existing one is replaced.
        encoding: How it is written.
        max_pixels: The largest frame that is decoded.
        threads: CPU threads for decoding, and as many for encoding; by default as FFmpeg likes.
        progress: Told after each frame.

    Raises:
        LMBError: If the source cannot be read or has no frame that can be decoded, or the target cannot be written or
            cannot hold what the source has.
    """
    container = container_of(target)
    encoder = encoder_of(encoding.codec or container.codec, encoding.quality)
    result = Result()
    with Source(source, max_pixels, threads) as opened, result.busy("seconds"):
        steps = _Steps(opened, result)
        first = steps.first()
        if first.interlaced_frame:
            warnings.warn(
                f"{source}: its frames are interlaced, and are upscaled as they are; deinterlace it before",
                stacklevel=2,
            )
        with path_written_atomically(target) as temporary:
            writing = Target(
                temporary,
                target,
                container=container,
                encoder=encoder,
                settings=encoder.settings(encoding.quality, encoding.small),
                source=opened,
                first=first,
                upscale=upscaler.upscale,
                threads=threads,
            )
            with writing:
                _run(upscaler, steps, writing, result, lambda done: progress(done, opened.frames))
        result.size, result.lost, result.damages = writing.size, writing.lost, opened.damages
    return result


class _Steps:
    """Decoded steps with RGB arrays; the first is decoded before it is known which streams are carried over."""

    def __init__(self, source: Source, result: Result) -> None:
        self.source, self.result = source, result
        self.steps = source.steps()
        self.pixels_of = Reader()
        self.head: Step | None = None
        self.pixels = 0  # of a frame

    def first(self) -> av.VideoFrame:
        with self.result.busy("decoding"):
            self.head = next(self.steps)
        if self.head.frame is None:
            damages = f": {self.source.damages[0]}" if self.source.damages else ""
            raise LMBError(f"{self.source.path}: no frame of its video can be decoded{damages}.")
        self.pixels = self.head.frame.width * self.head.frame.height
        return self.head.frame

    def next(self) -> tuple[Step, NDArray[Any] | None]:
        with self.result.busy("decoding"):
            step, self.head = self.head or next(self.steps), None
            return step, None if step.frame is None else self.pixels_of(step.frame)


def _run(upscaler: Upscaler, steps: _Steps, target: Target, result: Result, progress: Callable[[int], None]) -> None:
    each, count = upscaler.for_many(steps.pixels)
    reader, computer, writer = ThreadPoolExecutor(1), ThreadPoolExecutor(count), ThreadPoolExecutor(1)
    coming = deque(reader.submit(steps.next) for _ in range(_WAITING))
    computed: deque[tuple[Step, Future[tuple[NDArray[Any], float]]]] = deque()
    written: deque[Future[None]] = deque()

    def compute(pixels: NDArray[Any]) -> tuple[NDArray[Any], float]:
        start = time.perf_counter()
        return each(pixels), time.perf_counter() - start

    def add(step: Step, pixels: NDArray[Any] | None) -> None:
        with result.busy("encoding"):
            target.add(step.packets, pixels, step.frame)

    def write(step: Step, pixels: NDArray[Any] | None) -> None:
        written.append(writer.submit(add, step, pixels))
        while written and (pixels is None or len(written) > _WAITING or written[0].done()):
            written.popleft().result()

    try:
        ended = False
        while not ended:
            step, pixels = coming.popleft().result()
            ended = pixels is None
            if pixels is not None:
                coming.append(reader.submit(steps.next))
                computed.append((step, computer.submit(compute, pixels)))
            while computed and (ended or len(computed) > count or computed[0][1].done()):
                done, future = computed.popleft()
                large, seconds = future.result()
                result.computing += seconds / count
                result.frames += 1
                write(done, large)
                progress(result.frames)
        write(step, None)
    finally:
        for pool in (reader, computer, writer):
            pool.shutdown(cancel_futures=True)
