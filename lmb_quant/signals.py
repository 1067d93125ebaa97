# SPDX-License-Identifier: Apache-2.0
"""What INT, TERM and HUP do while a block runs that they must not cut off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_wait() -> Iterator[None]:
    """INT, TERM and HUP act at the end of the block where they would end the process; others' handlers stay."""
    caught: list[int] = []
    try:
        with _handled_by(caught.append):
            yield
    finally:
        for number in caught[:1]:
            signal.raise_signal(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """The first INT, TERM or HUP raises SystemExit in the main thread, a second one does what it did before."""

    def end(number: int) -> None:
        restore()
        raise SystemExit(128 + number)

    with _handled_by(end) as restore:
        yield


@contextmanager
def _handled_by(handle: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """The signals call ``handle`` where they would end the process, in the main thread; yields what ends that."""
    is_main = threading.current_thread() is threading.main_thread()
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if is_main and hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in names}
    ours = [number for number in names if before[number] in (signal.SIG_DFL, signal.default_int_handler)]

    def restore() -> None:
        for number in ours:
            signal.signal(number, before[number])

    def caught(number: int, frame: FrameType | None) -> None:
        handle(number)

    try:
        for number in ours:
            signal.signal(number, caught)
        yield restore
    finally:
        restore()
