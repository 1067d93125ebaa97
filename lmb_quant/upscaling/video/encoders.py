# SPDX-License-Identifier: Apache-2.0
"""The codecs that videos are written with, and how they are asked for quality."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmb_quant.errors import LMBError, unknown_name

DEFAULT_QUALITY = 65
"""H.264 at CRF 18: hardly to be told from what was encoded."""


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders.

    ``quality`` is the option that sets it, whose value at quality 0 is ``worst`` and at quality 100 is 0; None where
    nothing is lost or the codec has no such option. ``options`` are those of FFmpeg, ``small`` what is added for small
    files.
    """

    name: str
    quality: str | None = None
    worst: int = 0
    options: dict[str, str] = field(default_factory=dict)
    small: dict[str, str] = field(default_factory=dict)

    def settings(self, quality: int | None, small: bool) -> dict[str, str]:
        """FFmpeg's options for a quality from 0 to 100."""
        chosen = self.options | (self.small if small else {})
        if self.quality is not None:
            wanted = DEFAULT_QUALITY if quality is None else quality
            chosen[self.quality] = str(round(self.worst * (100 - wanted) / 100))
        return chosen


CODECS = {
    "h264": Encoder("libx264", "crf", 51, {"preset": "veryfast"}, {"preset": "slow"}),
    "hevc": Encoder(
        "libx265", "crf", 51, {"preset": "superfast", "x265-params": "log-level=none"}, {"preset": "medium"}
    ),
    "av1": Encoder("libsvtav1", "crf", 63, {"preset": "9"}, {"preset": "5"}),
    "vp9": Encoder(
        "libvpx-vp9",
        "crf",
        63,
        {"b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"},
        {"deadline": "good", "cpu-used": "2"},
    ),
    "prores": Encoder("prores_ks"),
    "ffv1": Encoder("ffv1", options={"level": "3", "slicecrc": "1"}),
}
"""Name -> encoder; the words of ``--codec``."""


def encoder_of(codec: str, quality: int | None) -> Encoder:
    """The encoder of a name in :data:`CODECS`.

    Raises:
        LMBError: If there is none, or it cannot be asked for a quality and one is named.
    """
    if codec not in CODECS:
        raise LMBError(f"--codec: {unknown_name('codec', codec, CODECS)}")
    encoder = CODECS[codec]
    if quality is not None and encoder.quality is None:
        able = ", ".join(name for name, other in CODECS.items() if other.quality)
        raise LMBError(f"--quality: {quality} is not allowed with --codec {codec}, which has none. Allowed: {able}.")
    return encoder
