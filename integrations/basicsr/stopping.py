# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM during a training: the iteration is finished, a checkpoint written, and the process ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGREE_EVERY = 10  # iterations between two questions to the other processes, which cost a synchronisation
_SAME = 2.0  # seconds in which torchrun passes a signal on that the terminal has sent already


class StoppedBySignal(KeyboardInterrupt):
    """Ends a training; not an Exception, which the host would catch.

    ``state`` is the training state that was written last, ``iteration`` the last that was finished; None where the end
    came at once.
    """

    def __init__(self, number: int, iteration: int | None = None, state: Path | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.iteration, self.state = number, iteration, state

    @property
    def exit_code(self) -> int:
        """As shells have it: 128 and the signal's number."""
        return 128 + self.number


class _Request:
    """What signals have asked of this process."""

    def __init__(self) -> None:
        self.pid, self.number, self.since = os.getpid(), 0, 0.0
        self.is_training = False

    def take(self, number: int, frame: Any) -> None:
        """The handler. A second signal, or one before the first iteration, ends the process at once."""
        if os.getpid() != self.pid:  # a loader's process, which has inherited the handler
            return
        if self.is_training and not self.number:
            self.number, self.since = number, time.monotonic()
            _tell(f"{signal.Signals(number).name}: a checkpoint follows this iteration; a second signal ends at once")
        elif "TORCHELASTIC_RUN_ID" not in os.environ or time.monotonic() - self.since > _SAME or not self.number:
            raise StoppedBySignal(number)

    def agreed(self, iteration: int, device: torch.device) -> int:
        """The signal's number, 0 for none; the same in all processes, which must stop at one iteration."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.number
        if iteration % _AGREE_EVERY:
            return 0
        number = torch.tensor(self.number, device=device)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        return int(number)


_current: list[_Request] = []


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, signals stop a training as this module says; not where they are ignored, nor in another thread.

    Loader processes that are left at the end are ended, for they do not heed SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    others, request = set(multiprocessing.active_children()), _Request()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, request.take)
    _current.append(request)
    try:
        yield
    finally:
        _current.remove(request)
        for number in heeded:
            signal.signal(number, before[number])
        _end(child for child in multiprocessing.active_children() if child not in others)


def stop_if_asked(iteration: int, device: torch.device, write: Callable[[], Path | None]) -> None:
    """Called before each iteration of a training.

    Args:
        iteration: The last that was finished.
        device: The trained network's.
        write: Writes a checkpoint of it, and returns its state; None for nothing to write.

    Raises:
        StoppedBySignal: If a signal has asked for it, once the checkpoint is written.
    """
    if not _current:
        return
    request = _current[-1]
    request.is_training = True
    number = request.agreed(iteration, device)
    if number:
        request.number = number
        raise StoppedBySignal(number, iteration, write())


class HeedlessWorker:
    """A loader's ``worker_init_fn``: signals to the whole group must not end it before its parent has written.

    Args:
        before: The ``worker_init_fn`` in whose place it stands.
    """

    def __init__(self, before: Callable[[int], None] | None) -> None:
        self.before = before

    def __call__(self, worker: int) -> None:
        """Initialises a worker."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.before is not None:
            self.before(worker)


def _end(children: Iterator[Any]) -> None:
    left = list(children)
    if not left:
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises where a loader's process is killed
    try:
        for child in left:
            child.join(1)
            child.kill()
            child.join()
    finally:
        signal.signal(signal.SIGCHLD, before)


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())  # not by sys.stderr, in the midst of whose writing a signal may come
