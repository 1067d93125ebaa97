# SPDX-License-Identifier: Apache-2.0
"""A video file that is read: its frames in order, and the packets of the streams that are carried over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from lmb_quant.errors import LMBError

from ._pyav import av, explained, reason
from .containers import DEMUXERS

_RATE = Fraction(25)  # where a file names none
_HEADERS_TELL = {"mov", "matroska"}  # formats with a duration in the header; that of others is an estimate
_SHORT = 1.0  # seconds that may be missing at the end


@dataclass(eq=False)
class Step:
    """A decoded frame, None at the end of the file; and the other streams' packets that are due before it."""

    frame: av.VideoFrame | None
    packets: list[av.Packet[Any]] = field(default_factory=list)


class Source:
    """An open video file.

    Args:
        path: The file.
        max_pixels: The largest frame that is decoded.
        threads: For decoding; by default one a core.

    Raises:
        LMBError: If it cannot be read, is no video, has no video track, or its frames are too large.
    """

    def __init__(self, path: Path, max_pixels: int, threads: int | None) -> None:
        self.path = path
        self.max_pixels = max_pixels
        self.damages: list[str] = []
        self._until = 0.0  # seconds; the end of what was read
        if path.exists() and not path.is_file():
            raise LMBError(f"{path}: it is a folder, pipe or device. Allowed: a file.")
        with explained(f"{path}: it cannot be read"):
            self.container = av.open(
                f"file:{path}",  # a name with a colon is no address
                container_options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"},
                metadata_errors="replace",
            )
        try:
            self.video = self._video()
            self._check_size(self.video.codec_context.width, self.video.codec_context.height)
        except BaseException:
            self.container.close()
            raise
        self.video.thread_type = "AUTO"
        if threads is not None:
            self.video.codec_context.thread_count = threads

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return self.video.average_rate or self.video.guessed_rate or _RATE

    @property
    def frames(self) -> int | None:
        """How many frames there are, if the file says so or it follows from its length."""
        if self.video.frames:
            return int(self.video.frames)
        if self.video.duration and self.video.time_base:
            return round(self.video.duration * self.video.time_base * self.rate)
        return round(Fraction(self.container.duration, av.time_base) * self.rate) if self.container.duration else None

    def others(self) -> list[av.stream.Stream]:
        """The streams beside the video."""
        return [stream for stream in self.container.streams if stream is not self.video]

    def steps(self) -> Iterator[Step]:
        """Decodes; time stamps rise strictly.

        What cannot be decoded is left out and noted in :attr:`damages`. The last step is the end.

        Raises:
            LMBError: If the size of the frames changes or is too large, or the file cannot be read for a reason that
                is not its own.
        """
        packets: list[av.Packet[Any]] = []
        size: tuple[int, int] | None = None
        last: int | None = None
        for packet in self._packets():
            if packet.stream.index != self.video.index:
                if packet.size:
                    packets.append(packet)
                continue
            for frame in self._decoded(packet):
                self._check_size(frame.width, frame.height)
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    raise LMBError(
                        f"{self.path}: a frame has {frame.width} x {frame.height} pixels after some of {size[0]} x "
                        f"{size[1]}. Allowed: one size."
                    )
                last = frame.pts = self._time(frame, last)
                yield Step(frame, packets)
                packets = []
        yield Step(None, packets)

    def _video(self) -> av.VideoStream:
        for stream in self.container.streams.video:
            if stream.disposition & av.stream.Disposition.attached_pic:
                continue
            if stream.codec_context is None:
                raise LMBError(
                    f"{self.path}: its video cannot be decoded: FFmpeg does not know the codec, or the file is damaged."
                )
            return stream
        found = ", ".join(sorted({str(stream.type) for stream in self.container.streams})) or "nothing"
        raise LMBError(f"{self.path}: it has no video track, but {found}. Allowed: a file with one.")

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise LMBError(
                f"{self.path}: {width} x {height} are {width * height:,} pixels. Allowed: {self.max_pixels:,}; "
                "--max-pixels lifts it."
            )

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """All packets; where the file's order is damaged, those before."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                self._check_end()
                return
            except av.InvalidDataError as error:
                self.damages.append(f"the rest of the file cannot be read: {reason(error)}")
                yield self._end()
                return
            except av.FFmpegError as error:
                raise LMBError(f"{self.path}: it cannot be read: {reason(error)}.") from error
            if packet.pts is not None and packet.time_base is not None:
                self._until = max(self._until, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            yield packet

    def _check_end(self) -> None:
        """Notes where the file ends before its header says: many formats can be cut anywhere."""
        if self.container.duration and _HEADERS_TELL.intersection(self.container.format.name.split(",")):
            told = ((self.container.start_time or 0) + self.container.duration) / av.time_base
            if told - self._until > _SHORT:
                self.damages.append(f"it ends at {self._until:.1f} s, and its header says {told:.1f} s")

    def _end(self) -> av.Packet[Any]:
        """The empty packet that makes the decoder give its last frames."""
        last: av.Packet[Any] = av.Packet()
        last.stream = self.video
        return last

    def _decoded(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            frames = self.video.codec_context.decode(packet if packet.size else None)
        except av.EOFError:
            return []
        except av.FFmpegError as error:
            self.damages.append(f"a packet cannot be decoded: {reason(error)}")
            return []
        self.damages += ["a frame is damaged" for frame in frames if frame.is_corrupt]
        return frames

    def _time(self, frame: av.VideoFrame, last: int | None) -> int:
        """The time stamp, in units of the stream; where there is none or it does not rise, the next possible."""
        assert self.video.time_base is not None
        step = max(1, round(1 / (self.rate * self.video.time_base)))
        time = frame.pts if frame.pts is not None else frame.dts
        if time is None:
            return 0 if last is None else last + step
        if last is not None and time <= last:
            self.damages.append("a time stamp does not rise")
            return last + 1
        return int(time)
