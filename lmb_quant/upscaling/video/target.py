# SPDX-License-Identifier: Apache-2.0
"""A video file that is written: encoded frames, and the other streams as they were."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmb_quant.errors import LMBError

from ._pyav import av, explained, reason
from .containers import CONTAINERS, Container
from .encoders import Encoder
from .pixels import Colour, Writer, colour_of, writing_colour, writing_format
from .source import Source

_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time_backup")
_NOT_CARRIED = {
    "MASTERING_DISPLAY_METADATA": "HDR metadata",
    "CONTENT_LIGHT_LEVEL": "HDR metadata",
    "DYNAMIC_HDR_PLUS": "HDR metadata",
    "DOVI_RPU_BUFFER": "HDR metadata",
    "DOVI_METADATA": "HDR metadata",
    "A53_CC": "closed captions",
    "SPHERICAL": "the projection of a spherical video",
    "STEREO3D": "the layout of a stereoscopic video",
}


class Target:
    """An open file, under a temporary name.

    Args:
        temporary: Where it is written.
        name: What messages call it.
        container: Its kind.
        encoder: Of the video.
        settings: The encoder's options.
        source: What the other streams and all that is said about them come from.
        first: Its first frame.
        upscale: SR factor.
        threads: For encoding; by default as many as the encoder likes.

    Raises:
        LMBError: If the container cannot hold a stream of sound or subtitles, or the encoder not the frames.
    """

    def __init__(
        self,
        temporary: str,
        name: Path,
        *,
        container: Container,
        encoder: Encoder,
        settings: dict[str, str],
        source: Source,
        first: av.VideoFrame,
        upscale: int,
        threads: int | None,
    ) -> None:
        self.name = name
        self.lost: list[str] = []
        self.time_base = source.video.time_base
        self.container = av.open(f"file:{temporary}", "w", format=container.name)
        try:
            kind, lost = writing_format(encoder.name, first.format)
            self._lose(*lost)
            colour = writing_colour(colour_of(first), kind)
            self.size = (upscale * first.width, upscale * first.height)
            self.video = self._video(encoder, settings, source, kind, colour, threads)
            self._shown_as(first, upscale)
            self.streams = self._others(source)
            self._described_as(source)
            self._start(encoder, kind)
        except BaseException:
            self.container.close()
            raise
        self._frame_of = Writer(kind, colour)

    def add(self, packets: list[av.Packet[Any]], pixels: NDArray[Any] | None, like: av.VideoFrame | None) -> None:
        """Writes what a step of the source became.

        Args:
            packets: Of other streams.
            pixels: ``(H, W, 3)``, RGB, uint8 or uint16; None for the end of the video.
            like: The frame that it was, for its time.

        Raises:
            LMBError: If it cannot be written. Its cause is the OSError, where it is one.
        """
        try:
            for packet in packets:
                if packet.stream.index in self.streams:
                    packet.stream = self.streams[packet.stream.index]
                    self.container.mux(packet)
            if pixels is None:
                self.container.mux(self.video.encode(None))
                return
            assert like is not None
            frame = self._frame_of(pixels)
            frame.pts, frame.time_base, frame.duration = like.pts, self.time_base, like.duration
            self.container.mux(self.video.encode(frame))
        except av.FFmpegError as error:
            raise LMBError(f"{self.name}: cannot be written: {reason(error)}.") from error

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes the file; after an exception it is only closed."""
        try:
            self.container.close()
        except av.FFmpegError as problem:
            if error is None:
                raise LMBError(f"{self.name}: cannot be written: {reason(problem)}.") from problem

    def _video(
        self,
        encoder: Encoder,
        settings: dict[str, str],
        source: Source,
        kind: str,
        colour: Colour,
        threads: int | None,
    ) -> av.VideoStream:
        try:
            stream = self.container.add_stream(
                encoder.name, rate=source.rate, options=settings, time_base=self.time_base
            )
        except ValueError:
            able = [ending for ending, other in CONTAINERS.items() if _holds(other, encoder.name)]
            raise LMBError(
                f"{self.name}: {self.container.format.name} holds no {encoder.name}. Allowed: {', '.join(able)}, or "
                "another --codec."
            ) from None
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt = kind
        context.colorspace, context.color_range = colour.matrix, 2 if colour.full else 1
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.flags |= av.codec.context.Flags.frame_duration
        aspect = source.video.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = aspect
        if threads is not None:
            context.thread_count = threads
        return stream

    def _shown_as(self, first: av.VideoFrame, upscale: int) -> None:
        """Rotation and mirroring; and what is lost of all else that the first frame says beside its pixels."""
        told: Any = first.side_data  # PyAV's types say that it yields names
        for data in told:
            if data.type.name == "DISPLAYMATRIX":
                matrix = np.frombuffer(bytes(data), np.int32).copy()
                matrix[6:8] *= upscale  # the shift, in pixels
                self.video.set_display_matrix(matrix.tolist())
            elif data.type.name in _NOT_CARRIED:
                self._lose(_NOT_CARRIED[data.type.name])

    def _others(self, source: Source) -> dict[int, av.stream.Stream]:
        streams = {}
        for stream in source.others():
            if stream.type == "data" and stream.name == "bin_data" and source.container.chapters():
                continue  # what QuickTime's files keep the names of chapters in
            what = f"stream {stream.index}, {stream.type} ({getattr(stream, 'name', None) or 'unknown codec'})"
            is_cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
            if stream.type == "video" and not (is_cover and self.container.format.name == "mp4"):
                self._lose("the cover picture" if is_cover else what)  # elsewhere it would be a second video
                continue
            try:
                if isinstance(stream, av.stream.AttachmentStream):
                    self.container.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
                    continue
                new = self.container.add_stream_from_template(stream, opaque=True)
            except (ValueError, av.FFmpegError) as error:
                if stream.type in ("audio", "subtitle"):
                    able = [ending for ending, other in CONTAINERS.items() if _holds(other, stream.name)]
                    raise LMBError(
                        f"{self.name}: {self.container.format.name} does not hold {what} of {source.path}. Allowed: "
                        f"{', '.join(able) or source.path.suffix}."
                    ) from error
                self._lose(what)
                continue
            new.metadata.update(stream.metadata)
            new.disposition = stream.disposition
            streams[stream.index] = new
        return streams

    def _described_as(self, source: Source) -> None:
        self.video.metadata.update(
            {key: value for key, value in source.video.metadata.items() if key not in ("encoder", "vendor_id")}
        )
        self.video.disposition = source.video.disposition
        told = {key: value for key, value in source.container.metadata.items() if key not in _OF_THE_FILE}
        self.container.metadata.update(told)
        chapters = source.container.chapters()
        if chapters:
            self.container.set_chapters(chapters)

    def _start(self, encoder: Encoder, kind: str) -> None:
        width, height = self.size
        what = f"{self.name}: {encoder.name}, {width} x {height} pixels of {kind}: it cannot be begun"
        with explained(what):
            self.container.start_encoding()

    def _lose(self, *what: str) -> None:
        self.lost = list(dict.fromkeys([*self.lost, *what]))


def _holds(container: Container, codec: str | None) -> bool:
    """Whether a container takes a codec, or an encoder's, by FFmpeg's name."""
    with av.open("file:/dev/null", "w", format=container.name) as file:
        return codec in file.supported_codecs
