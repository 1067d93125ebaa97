# SPDX-License-Identifier: Apache-2.0
"""How a run that takes long is ended by a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """The first INT, TERM or HUP raises SystemExit in the main thread, a second one does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in names}
    ours = [number for number in names if before[number] in (signal.SIG_DFL, signal.default_int_handler)]

    def restore() -> None:
        for number in ours:
            signal.signal(number, before[number])

    def end(number: int, frame: FrameType | None) -> None:
        restore()
        raise SystemExit(128 + number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()
