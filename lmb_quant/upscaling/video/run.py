# SPDX-License-Identifier: Apache-2.0
"""Several videos through a network, one after the other: what the command line shows and says."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lmb_quant.errors import LMBError
from lmb_quant.signals import ended_by_signals

from ..batch import HOPELESS, Rules
from ..console import Reporter
from ..inputs import Job, check_free
from ..upscaler import Upscaler
from .clip import Encoding as Encoding
from .clip import Result, check_encoding, upscale_clip

_TOLD = 3
"""Kinds of damage of a video that are told, at most."""


def check_encodings(jobs: Sequence[Job], encoding: Encoding) -> None:
    """Checks, before any work, that all videos can be written in a way.

    Raises:
        LMBError: As :func:`.clip.check_encoding`.
    """
    for job in jobs:
        check_encoding(job.target, encoding)


def run_videos(upscaler: Upscaler, jobs: Sequence[Job], console: Console, rules: Rules, encoding: Encoding) -> int:
    """Upscales videos; one that fails is reported and the others are still done.

    INT, TERM and HUP, where nothing else handles them, end the run: the video that is being written is left out, and
    SystemExit is raised with 128 and their number.

    Args:
        upscaler: The network; its number of threads is that of the codecs too.
        jobs: What :func:`..inputs.find_jobs` made.
        console: Where the progress bar, the reports and a summary go.
        rules: How files are treated.
        encoding: How videos are written.

    Returns:
        How many failed.
    """
    reporter = Reporter(console)
    todo = [job for job in jobs if not (rules.skip_existing and os.path.exists(job.target))]
    done = failed = 0
    with ended_by_signals(), _bar(console) as progress:
        try:
            for job in todo:
                try:
                    with _warnings_told(reporter):
                        reporter.line(_report(job, _upscaled(upscaler, job, rules, encoding, progress, reporter)))
                    done += 1
                except Exception as error:  # whatever a codec raises is this file's
                    failed += 1
                    reporter.error(job.source, error)
                    _check_hope(job, error, len(todo) - done - failed)
        except SystemExit as end:
            reporter.stopped(end)
            raise
        finally:
            skipped = f", {len(jobs) - len(todo)} were there already" if len(jobs) > len(todo) else ""
            reporter.line(f"{done} of {len(todo)} videos upscaled x{upscaler.upscale}{skipped}.")
    return failed


def _upscaled(
    upscaler: Upscaler, job: Job, rules: Rules, encoding: Encoding, progress: Progress, reporter: Reporter
) -> Result:
    check_free(job.target, rules.force)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    bar = progress.add_task(reporter.markup(job.source.name), total=None)
    try:
        result = upscale_clip(
            upscaler,
            job.source,
            job.target,
            encoding=encoding,
            max_pixels=rules.max_pixels,
            threads=upscaler.threads,
            progress=lambda frames, all_of_them: progress.update(bar, completed=frames, total=all_of_them),
        )
    finally:
        progress.remove_task(bar)
    kinds = dict.fromkeys(result.damages)
    told = [f"{kind} ({result.damages.count(kind)} times)" for kind in list(kinds)[:_TOLD]]
    if told:
        more = f"; {len(kinds) - _TOLD} more kinds of damage" if len(kinds) > _TOLD else ""
        reporter.warning(f"{job.source}: it is damaged: {'; '.join(told)}{more}.")
    return result


def _report(job: Job, result: Result) -> Text:
    width, height = result.size
    shares = ", ".join(
        f"{word} {100 * seconds / result.seconds:.0f} %"
        for word, seconds in (
            ("decoding", result.decoding),
            ("the network", result.computing),
            ("encoding", result.encoding),
        )
    )
    text = Text(
        f"{job.target}: {width} x {height} pixels, {result.frames} frames, {result.seconds:.1f} s, "
        f"{result.frames / result.seconds:.1f} frames a second; busy: {shares}"
    )
    return text.append(f"; not kept: {', '.join(result.lost)}" if result.lost else "")


def _check_hope(job: Job, error: Exception, rest: int) -> None:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in HOPELESS:
        raise LMBError(
            f"{job.target.parent}: {cause.strerror}: {rest} more videos are not done. With --skip-existing the same "
            "command goes on."
        ) from None


@contextmanager
def _warnings_told(reporter: Reporter) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            yield
        finally:
            for warning in caught:
                reporter.warning(str(warning.message))


class _Rate(ProgressColumn):
    """Frames a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} frames/s")


class _Frames(ProgressColumn):
    """Frames that are done, and all of them where that is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:.0f}/{'?' if task.total is None else f'{task.total:.0f}'}")


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), _Frames(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
