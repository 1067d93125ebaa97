# SPDX-License-Identifier: Apache-2.0
"""Which files are upscaled, and into which: images, videos and folders of images from the command line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmb_quant.errors import LMBError
from lmb_quant.files import check_folder, check_name, is_folder

from .formats import FORMATS, READ_ENDINGS, READ_ONLY, format_of
from .video.containers import CONTAINERS, container_of, is_video
from .video.containers import READ_ONLY as READ_ONLY_VIDEOS


@dataclass(frozen=True)
class Job:
    """A file to read and a file to write."""

    source: Path
    target: Path

    @property
    def is_video(self) -> bool:
        """Whether it is one, known by its extension."""
        return is_video(self.source)


@dataclass
class PassedOver:
    """What folders hold beside the images that are read; hidden entries are not counted."""

    folders: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = [f"{count} {kind}" for kind, count in self.kinds.most_common()]
        plural = "" if self.folders == 1 else "s"
        folders = [f"{self.folders} folder{plural} (--recursive takes them)"] if self.folders else []
        return ", ".join([*folders, *kinds])


def find_jobs(inputs: Sequence[Path], output: Path, *, recursive: bool = False) -> tuple[list[Job], PassedOver]:
    """Pairs each image with the file that its result is written to.

    Args:
        inputs: Files, and folders: the images in them, known by their extensions. Videos are named one by one.
        output: For one file a file; else a folder, which need not exist, where names and, if ``recursive``, subfolders
            stay the same. What is only read (:data:`.formats.READ_ONLY`, :data:`.video.containers.READ_ONLY`) becomes
            a PNG file, a Matroska file.
        recursive: Whether subfolders are searched; links to folders and the output are not.

    Returns:
        The pairs, and what was passed over in the folders.

    Raises:
        LMBError: If a folder holds no image or cannot be read, two images would become one file, an image would be
            overwritten by its own or another's result, or ``output`` does not fit.
    """
    passed = PassedOver()
    found: dict[Path, tuple[Path, Path]] = {}  # each name of a file once -> as named, and its name below the output
    for entry in inputs:
        if not os.path.isdir(entry):
            found.setdefault(_name_of(entry), (entry, Path(entry.name)))
            continue
        images = _images_in(entry, output, recursive, passed)
        if not images:
            beside = f" Passed over: {passed}." if str(passed) else ""
            raise LMBError(f"input: folder {str(entry)!r} holds no image. Allowed: {', '.join(READ_ENDINGS)}.{beside}")
        for path in images:
            found.setdefault(_name_of(path), (path, path.relative_to(entry)))
    one_file = len(inputs) == 1 and not os.path.isdir(inputs[0])
    if output.suffix and not os.path.isdir(output) and (one_file or output.suffix.lower() in (*FORMATS, *CONTAINERS)):
        if not one_file:
            raise LMBError(f"output: {str(output)!r} is a file for {len(found)} inputs. Allowed: a folder.")
        if is_video(inputs[0]):
            container_of(output)
        else:
            format_of(output)
        jobs = [Job(inputs[0], output)]
    elif os.path.exists(output) and not os.path.isdir(output):
        allowed = ", ".join([*FORMATS, *CONTAINERS])
        raise LMBError(f"output: {str(output)!r} is a file without a known extension. Allowed: {allowed}.")
    else:
        jobs = _into_folder(list(found.values()), output)
    _check_apart(jobs)
    return jobs, passed


def check_targets(jobs: Sequence[Job]) -> None:
    """Checks, before any work, that the files can be written; leftovers of killed runs are removed beside them.

    Raises:
        LMBError: If a folder is none, cannot be reached, made or written into, or a name is too long.
    """
    nearest: dict[Path, Path] = {}
    for job in jobs:
        folder = job.target.parent
        if folder not in nearest:
            nearest[folder] = _existing(folder)
        check_name(job.target, nearest[folder])
    for folder in dict.fromkeys(nearest.values()):
        check_folder(folder)


def check_free(target: Path, force: bool) -> None:
    """Checks that a file may take its name.

    Raises:
        LMBError: If it is a folder, or there is one that ``force`` does not replace.
    """
    if os.path.isdir(target):
        raise LMBError(f"{target}: it is a folder. Allowed: a file.")
    if os.path.exists(target) and not force:
        raise LMBError(
            f"{target}: it exists and is not overwritten. Use --skip-existing to go on, --force to replace it, or "
            "another output."
        )


def _existing(folder: Path) -> Path:
    """The folder, or of those above it the nearest that exists."""
    for place in (folder, *folder.absolute().parents):
        if is_folder(place):
            return place
        if os.path.lexists(place):
            kind = "a dangling link" if not os.path.exists(place) else "a file"
            raise LMBError(f"output: {str(place)!r} is {kind}. Allowed: a folder.")
    return Path(folder.anchor)


def _images_in(folder: Path, output: Path, recursive: bool, passed: PassedOver) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise LMBError(f"input: folder {str(folder)!r} cannot be read: {error.strerror}.") from None
    images: list[Path] = []
    for path in entries:
        ending = path.suffix.lower()
        if path.name.startswith("."):
            continue
        if os.path.isdir(path):
            if recursive and not path.is_symlink() and _real(path) != _real(output):
                images += _images_below(path, output, passed)
            else:
                passed.folders += not recursive
        elif path.is_symlink() and not os.path.exists(path):
            passed.kinds["dangling link"] += 1
        elif not os.path.isfile(path):
            passed.kinds["pipe, socket or device"] += 1
        elif ending in READ_ENDINGS:
            images.append(path)
        else:
            passed.kinds[ending or "without extension"] += 1
    return images


def _images_below(folder: Path, output: Path, passed: PassedOver) -> list[Path]:
    try:
        return _images_in(folder, output, True, passed)
    except LMBError:
        passed.kinds["folder that cannot be read"] += 1
        return []


def _into_folder(found: Sequence[tuple[Path, Path]], output: Path) -> list[Job]:
    taken = {name for _, name in found}
    jobs = []
    for source, name in found:
        ending = name.suffix.lower()
        written = ".png" if ending in READ_ONLY else ".mkv" if ending in READ_ONLY_VIDEOS else None
        if written is not None:
            other = name.with_suffix(written)
            name = other if other not in taken else name.with_name(f"{name.name}{written}")
            taken.add(name)
        jobs.append(Job(source, output / name))
    return jobs


def _check_apart(jobs: Sequence[Job]) -> None:
    sources = {_real(job.source) for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = _real(job.target)
        if target in sources:
            raise LMBError(f"output: {str(job.target)!r} is an input. Allowed: another file or folder.")
        if target in taken:
            first = str(taken[target])
            raise LMBError(f"inputs: {first!r} and {str(job.source)!r} would both become {str(job.target)!r}.")
        taken[target] = job.source


def _name_of(path: Path) -> Path:
    """The name without links among its folders: a link to an image is an image of its own."""
    return _real(path.absolute().parent) / path.name


def _real(path: Path) -> Path:
    """Without links; unlike ``Path.resolve``, of paths too that cannot be reached."""
    return Path(os.path.realpath(path))
