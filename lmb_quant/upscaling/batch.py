# SPDX-License-Identifier: Apache-2.0
"""Image files through a network: what ``lmb-quant upscale`` does. Reading, computing and writing overlap."""

from __future__ import annotations

import errno
import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lmb_quant.errors import LMBError
from lmb_quant.signals import ended_by_signals

from .console import Reporter
from .formats import FORMATS, READ_ENDINGS, check_fits
from .image_file import ImageFile
from .inputs import Job, check_free
from .reading import MAX_PIXELS, read_image
from .upscaler import Upscaler
from .writing import write_image

HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of one file that every other would have too."""

_WAITING = 2
"""Upscaled images that wait to be written, at most."""


@dataclass(frozen=True)
class Rules:
    """How files are treated.

    ``force`` replaces existing ones, ``skip_existing`` leaves them out; ``max_pixels`` is the largest image that is
    read; ``small`` spends time to make files small.
    """

    force: bool = False
    skip_existing: bool = False
    max_pixels: int = MAX_PIXELS
    small: bool = False


def run_jobs(upscaler: Upscaler, jobs: Sequence[Job], console: Console, rules: Rules | None = None) -> int:
    """Upscales images; one that fails is reported and the others are still done.

    While one is computed, the next is read and the one before is written. INT, TERM and HUP, where nothing else
    handles them, end the run: what is being written is finished, and SystemExit is raised with 128 and their number.

    Args:
        upscaler: The network.
        jobs: What :func:`.inputs.find_jobs` made.
        console: Where the progress bar, the reports and a summary go.
        rules: How files are treated.

    Returns:
        How many failed.

    Raises:
        LMBError: If nothing can be written any more, a full disk for instance; the images after it are not done.
    """
    return _Run(upscaler, jobs, console, rules or Rules())()


class _Run:
    def __init__(self, upscaler: Upscaler, jobs: Sequence[Job], console: Console, rules: Rules) -> None:
        self.upscaler, self.console, self.rules = upscaler, console, rules
        self.reporter = Reporter(console)
        self.jobs = [job for job in jobs if not (rules.skip_existing and os.path.exists(job.target))]
        self.skipped = len(jobs) - len(self.jobs)
        self.done = self.failed = 0
        self.hopeless = ""
        self.warned: list[warnings.WarningMessage] = []
        self.writing: deque[tuple[Job, Future[Text]]] = deque()

    def __call__(self) -> int:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        terminal = self.console.is_terminal
        with (
            _only_our_limits(),
            warnings.catch_warnings(record=True) as self.warned,
            Progress(*columns, console=self.console, transient=True, disable=not terminal) as self.progress,
            ended_by_signals(),
        ):
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", module="PIL|tifffile|imagecodecs")  # damaged metadata; the pixels decide
            warnings.simplefilter("ignore", DeprecationWarning)
            self.bar = self.progress.add_task("", total=len(self.jobs))
            reader, writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
            try:
                self._all(reader, writer)
            except SystemExit as end:
                self.reporter.stopped(end)
                raise
            finally:
                for pool in (reader, writer):
                    pool.shutdown(cancel_futures=True)
                for job, future in self.writing:  # of a run that ended early: what was finished all the same
                    if not future.cancelled():
                        self._written(job, future)
                self._summary()
        if self.hopeless:
            rest = len(self.jobs) - self.done - self.failed
            raise LMBError(
                f"{self.hopeless}: {rest} more images are not done. With --skip-existing the same command goes on."
            )
        return self.failed

    def _all(self, reader: ThreadPoolExecutor, writer: ThreadPoolExecutor) -> None:
        coming = deque(reader.submit(self._read, job) for job in self.jobs[:1])
        for number, job in enumerate(self.jobs):
            coming.extend(reader.submit(self._read, later) for later in self.jobs[number + 1 : number + 2])
            with self._reported(job):
                self._show("reading", job)
                file = coming.popleft().result()
                self.writing.append((job, writer.submit(self._write, job, *self._upscaled(job, file))))
            while self.writing and (len(self.writing) > _WAITING or self.writing[0][1].done()):
                self._oldest_written()
            if self.hopeless:
                return
        while self.writing:
            self._oldest_written()

    def _read(self, job: Job) -> ImageFile:
        check_free(job.target, self.rules.force)
        if job.target.suffix.lower() not in FORMATS:
            raise LMBError(
                f"{job.source}: extension {job.source.suffix!r} is not read. Allowed: {', '.join(READ_ENDINGS)}."
            )
        file = read_image(job.source, self.rules.max_pixels)
        width, height = (self.upscaler.upscale * side for side in file.size)
        check_fits(job.target, file.layout, file.bits, width, height)
        return file

    def _upscaled(self, job: Job, file: ImageFile) -> tuple[ImageFile, float]:
        self._show("upscaling", job)
        start = time.perf_counter()
        pixels = file.pixels
        if isinstance(pixels, Image.Image) and pixels.mode != "CMYK":
            pixels = np.atleast_3d(np.asarray(pixels))
        settled = self.done + self.failed
        try:
            large = self.upscaler(
                pixels, lambda tile, tiles: self.progress.update(self.bar, completed=settled + min(0.9, tile / tiles))
            )
        except LMBError as error:
            raise LMBError(f"{job.source}: {error}") from None
        return ImageFile(large, file.metadata, file.lost), time.perf_counter() - start

    def _write(self, job: Job, file: ImageFile, seconds: float) -> Text:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        check_free(job.target, self.rules.force)  # another process may have been faster
        dropped = [*file.lost, *write_image(job.target, file, small=self.rules.small)]
        width, height = file.size
        report = Text(f"{job.target}: {width} x {height} pixels, {seconds:.1f} s")
        return report.append(f"; not kept: {', '.join(dropped)}" if dropped else "")

    def _oldest_written(self) -> None:
        job, future = self.writing[0]
        self._show("writing", job)
        wait([future])  # where a signal ends this, the image is still among those that are written
        self.writing.popleft()
        self._written(job, future)

    def _written(self, job: Job, future: Future[Text]) -> None:
        with self._reported(job):
            report = future.result()
            self.done += 1
            self.reporter.line(report)

    @contextmanager
    def _reported(self, job: Job) -> Iterator[None]:
        """Reports what goes wrong with one file, and notes where it would go wrong with all."""
        try:
            yield
        except Exception as error:  # whatever a codec raises is this file's
            if self.hopeless:
                return  # one of those that are not done
            self.failed += 1
            self.reporter.error(job.source, error)
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in HOPELESS:
                self.hopeless = f"{job.target.parent}: {cause.strerror}"
        finally:
            for warning in self.warned:
                self.reporter.warning(str(warning.message))
            self.warned.clear()
            self.progress.update(self.bar, completed=self.done + self.failed)

    def _show(self, what: str, job: Job) -> None:
        self.progress.update(self.bar, description=f"{what} {self.reporter.markup(job.source.name)}")

    def _summary(self) -> None:
        skipped = f", {self.skipped} were there already" if self.skipped else ""
        self.console.print(f"{self.done} of {len(self.jobs)} images upscaled x{self.upscaler.upscale}{skipped}.")


@contextmanager
def _only_our_limits() -> Iterator[None]:
    """Lifts Pillow's limit of pixels, for the rules have one; what tifffile logs of damaged files is not shown."""
    log = logging.getLogger("tifffile")
    before, Image.MAX_IMAGE_PIXELS = (Image.MAX_IMAGE_PIXELS, log.disabled), None
    log.disabled = True
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, log.disabled = before
