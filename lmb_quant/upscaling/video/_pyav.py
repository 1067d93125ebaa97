# SPDX-License-Identifier: Apache-2.0
"""Imports PyAV, and says what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lmb_quant.errors import LMBError

INSTALL = "pip install 'lmb-quant[video]'"


_LINES = 2  # of what FFmpeg said, at most


class MissingPyAVError(LMBError, ImportError):
    """PyAV cannot be imported; the message holds the command that installs it."""


# SVT-AV1 writes about itself to standard error, unless told otherwise before it is loaded.
os.environ.setdefault("SVT_LOG", "1")

try:
    import av as av
    import av.logging
except ImportError as error:
    raise MissingPyAVError(f"videos need PyAV, which cannot be imported: {error}. To install it: {INSTALL}") from error


def reason(error: Exception) -> str:
    """An error in words, without its number and file."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raises an error of FFmpeg's as an :class:`LMBError` that begins with ``what`` and has what FFmpeg said about it.

    Only for what opens files and codecs: what FFmpeg says needs Python's lock, which its threads must not wait for.
    """
    before, skipped = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # what is repeated may be another file's
    try:
        with av.logging.Capture() as lines:
            yield
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, LMBError):
            raise
        said = "; ".join(list(dict.fromkeys(line.strip().rstrip(".") for _, _, line in lines))[:_LINES])
        raise LMBError(f"{what}: {reason(error)}{f' ({said})' if said else ''}.") from error
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(skipped)
