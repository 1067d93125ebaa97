# SPDX-License-Identifier: Apache-2.0
"""Which video files are read and written, by their extensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmb_quant.errors import LMBError


@dataclass(frozen=True)
class Container:
    """A container by FFmpeg's name, and the codec of :data:`.encoders.CODECS` that it gets where none is named."""

    name: str
    codec: str


CONTAINERS = {
    ".mp4": Container("mp4", "h264"),
    ".m4v": Container("mp4", "h264"),
    ".mov": Container("mov", "h264"),
    ".mkv": Container("matroska", "h264"),
    ".webm": Container("webm", "vp9"),
}
"""Extension -> container, of files that are read and written."""

READ_ONLY = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".wmv",
)  # fmt: skip
"""Extensions of files that are only read; in a folder a Matroska file takes their place."""

READ_ENDINGS = (*CONTAINERS, *READ_ONLY)

DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,avi,flv,live_flv,mpeg,mpegts,mxf,ogg,h264,hevc,mpegvideo,ivf,nut"
"""FFmpeg's readers that a file may get. Playlists are not among them, which could name other files and addresses."""


def is_video(path: Path) -> bool:
    """Whether a path has the extension of a video that is read."""
    return path.suffix.lower() in READ_ENDINGS


def container_of(path: Path) -> Container:
    """The container that a path's extension names, to write it.

    Raises:
        LMBError: If there is none.
    """
    found = CONTAINERS.get(path.suffix.lower())
    if found is None:
        allowed = ", ".join(CONTAINERS)
        raise LMBError(f"{path}: extension {path.suffix!r} is not allowed for a video. Allowed: {allowed}.")
    return found
