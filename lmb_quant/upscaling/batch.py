# SPDX-License-Identifier: Apache-2.0
"""Image files and folders through a network: what ``lmb-quant upscale`` does."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from lmb_quant.errors import LMBError

from .files import ImageFile, read_image, write_image
from .formats import FORMATS, check_fits, format_of
from .upscaler import Upscaler


@dataclass(frozen=True)
class Job:
    """A file to read and a file to write."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[Path], output: Path) -> list[Job]:
    """Pairs each image with the file that its enlargement becomes.

    Args:
        inputs: Files, and folders: the images directly in them, known by their extensions.
        output: For one file a file; else a folder, which need not exist, where the names stay the same.

    Raises:
        LMBError: If a folder holds no image, two images would become one file, an image would be overwritten by its
            own or another's enlargement, or ``output`` does not fit.
    """
    sources = list({path.resolve(): path for entry in inputs for path in _images_of(entry)}.values())
    one_file = len(inputs) == 1 and not inputs[0].is_dir()
    if output.suffix and not output.is_dir() and (one_file or output.suffix.lower() in FORMATS):
        if not one_file:
            raise LMBError(f"output: {str(output)!r} is a file for {len(sources)} images. Allowed: a folder.")
        format_of(output)
        jobs = [Job(sources[0], output)]
    elif output.exists() and not output.is_dir():
        raise LMBError(f"output: {str(output)!r} is a file without a known extension. Allowed: {', '.join(FORMATS)}.")
    else:
        jobs = [Job(source, output / source.name) for source in sources]
    _check_apart(jobs)
    return jobs


def run_jobs(upscaler: Upscaler, jobs: Sequence[Job], console: Console, *, force: bool = False) -> int:
    """Enlarges images one after another; one that fails is reported and the others are still done.

    Args:
        upscaler: The network.
        jobs: What :func:`find_jobs` made.
        console: Where the progress bar, the reports and a summary go.
        force: Whether existing files are replaced.

    Returns:
        How many failed.
    """
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(jobs))
        for done, job in enumerate(jobs):
            progress.update(bar, description=job.source.name.replace("[", r"\["), completed=done)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    report = _run(upscaler, job, progress, bar, done, force)
                except (LMBError, OSError, MemoryError) as error:
                    failed += 1
                    report = Text.assemble(("error:", "bold red"), f" {error or 'not enough memory'}")
            for warning in caught:
                console.print(Text.assemble(("warning:", "bold yellow"), f" {warning.message}"), soft_wrap=True)
            console.print(report, soft_wrap=True)
    console.print(f"{len(jobs) - failed} of {len(jobs)} images enlarged x{upscaler.upscale}.")
    return failed


def _run(upscaler: Upscaler, job: Job, progress: Progress, bar: TaskID, done: int, force: bool) -> Text:
    _check_target(job.target, force)
    format_of(job.target)
    file = read_image(job.source)
    width, height = (upscaler.upscale * side for side in file.size)
    check_fits(job.target, file.layout, file.bits, width, height)
    start = time.perf_counter()
    try:
        pixels = upscaler(
            file.pixels, lambda tile, tiles: progress.update(bar, completed=done + min(0.99, tile / tiles))
        )
    except LMBError as error:
        raise LMBError(f"{job.source}: {error}") from None
    seconds = time.perf_counter() - start
    job.target.parent.mkdir(parents=True, exist_ok=True)
    _check_target(job.target, force)  # another process may have been faster
    write_image(job.target, ImageFile(pixels, file.metadata))
    return Text(f"{job.target}: {width} x {height} pixels, {seconds:.1f} s")


def _check_target(target: Path, force: bool) -> None:
    if target.is_dir():
        raise LMBError(f"{target}: it is a folder. Allowed: a file.")
    if target.exists() and not force:
        raise LMBError(f"{target}: it exists and is not overwritten. Use --force, or another output.")


def _images_of(entry: Path) -> list[Path]:
    if not entry.is_dir():
        return [entry]
    known = (path for path in entry.iterdir() if path.suffix.lower() in FORMATS and not path.name.startswith("."))
    images = sorted(path for path in known if path.is_file())
    if not images:
        raise LMBError(f"input: folder {str(entry)!r} holds no image. Allowed: {', '.join(FORMATS)}.")
    return images


def _check_apart(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise LMBError(f"output: {str(job.target)!r} is an input. Allowed: another file or folder.")
        if target in taken:
            first = str(taken[target])
            raise LMBError(f"inputs: {first!r} and {str(job.source)!r} would both become {str(job.target)!r}.")
        taken[target] = job.source
