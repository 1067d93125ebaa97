# SPDX-License-Identifier: Apache-2.0
"""Files that are complete or absent, and the checks before long work whose result goes into one.

A file is written under a temporary name in its own folder and renamed. The name is short and has nothing of the
target's, so that every name that the file system takes can be written. While a process writes, it holds a lock on its
temporary file, and the system drops the lock when the process ends, however it ends: a temporary file that can be
locked is the leftover of a process that was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from lmb_quant.errors import LMBError
from lmb_quant.signals import signals_wait

if sys.platform != "win32":
    import fcntl

_TEMPORARY = re.compile(r"\.lmb-quant-[0-9a-f]{16}\.part")
_PROBE = bytes(1 << 16)  # some systems keep a few bytes of a file without a block of the disk
_LONGEST_NAME = 255  # bytes, where the system does not say


def write_atomically(path: Path, data: bytes | bytearray, *, durable: bool = True) -> None:
    """Writes a file so that under its name there is, at any moment, either what was there before or all of ``data``.

    An existing file keeps its mode, and where the path is a link, what it leads to is written.
    In the main thread INT, TERM and HUP wait for its end where nothing else handles them, so none leaves a half file.

    Args:
        path: The file; its folder exists.
        data: The contents.
        durable: Whether the file is on the disk at the end: then it survives a crash of the whole machine.

    Raises:
        LMBError: If it cannot be written, for example on a full disk or because a pipe has its name; what was there
            before stays. Its cause is the OSError, where there was one.
    """
    try:
        with signals_wait(), _replacing(path, durable) as (_, file):
            file.write(data)
    except OSError as error:
        raise LMBError(f"{path}: cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def path_written_atomically(path: Path) -> Iterator[str]:
    """Yields a temporary path for a library that writes a file by its name; at the end the file takes its own name.

    As with :func:`write_atomically` there is, at any moment, either what was there before or all that was written. A
    signal that ends the block with an exception leaves nothing behind.

    Args:
        path: The file; its folder exists.

    Raises:
        LMBError: If the folder cannot be written into, or the disk is full at the end. Its cause is the OSError.
    """
    with contextlib.ExitStack() as stack:
        try:
            temporary, _ = stack.enter_context(_replacing(path, durable=True))
        except OSError as error:
            raise LMBError(f"{path}: cannot be written: {error.strerror or error}.") from error
        yield temporary
        try:
            stack.close()
        except OSError as error:
            raise LMBError(f"{path}: cannot be written: {error.strerror or error}.") from error


def check_writable(path: Path) -> None:
    """Checks, before long work, that a file can be written; leftovers of killed runs in its folder are removed.

    A little is written into the folder to try, and removed.

    Raises:
        LMBError: If the file or its folder cannot be: the path is a folder, a pipe or a device, its folder does not
            exist, is none or is not writable, the name is too long, the disk is full.
    """
    if "\0" in str(path):
        raise LMBError(f"{str(path)!r}: a name has no null characters. Allowed: another name.")
    if os.path.isdir(path):
        raise LMBError(f"{path}: it is a folder. Allowed: a file in an existing folder.")
    place = _place(path)
    if not is_folder(place.parent):
        raise LMBError(f"{path}: there is no folder {str(place.parent)!r}. Allowed: a file in an existing folder.")
    check_name(place, place.parent)
    check_folder(place.parent)
    _mode_of_file(place)


def check_new(path: Path, *, force: bool | None = None) -> None:
    """Checks, before long work, that a file can be written and takes no other one's place unasked.

    Args:
        path: The file.
        force: Whether an existing file is replaced; None where the user has no ``--force`` to say so.

    Raises:
        LMBError: As :func:`check_writable`, or if the file exists and is not replaced.
    """
    check_writable(path)
    if not force and os.path.lexists(path):
        allowed = "another name" if force is None else "another name, or --force to replace it"
        raise LMBError(f"{path}: it exists. Allowed: {allowed}.")


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, where it is missing, and checks as :func:`check_folder`.

    Raises:
        LMBError: If it cannot be made, or no file can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LMBError(f"{folder}: the folder cannot be made: {error.strerror or error}.") from error
    check_folder(folder)


def is_folder(path: Path) -> bool:
    """Whether a path is an existing folder.

    Raises:
        LMBError: If that cannot be found out, for want of permission or because the path is too long.
    """
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Whether a path is an existing regular file.

    Raises:
        LMBError: As :func:`is_folder`.
    """
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def entries(folder: Path) -> list[Path]:
    """What an existing folder holds, sorted by name.

    Raises:
        LMBError: If the folder cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise LMBError(f"{folder}: the folder cannot be read: {error.strerror or error}.") from error


def files_ending(folder: Path, endings: Collection[str]) -> list[Path]:
    """The files in an existing folder whose names have one of some endings, in any case; hidden ones are left out.

    Raises:
        LMBError: If the folder cannot be read.
    """
    found = (path for path in entries(folder) if path.suffix.lower() in endings and not path.name.startswith("."))
    return [path for path in found if os.path.isfile(path)]


def expanded(path: str | Path) -> Path:
    """A path with the user's home in the place of ``~``.

    That of an unknown user stays as it is, where ``Path.expanduser`` raises: then there is no such file.
    """
    return Path(os.path.expanduser(path))


def _mode(path: Path) -> int | None:
    """The mode of what is at a path, links followed; None where nothing is."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LMBError(f"{path}: it cannot be reached: {error.strerror or error}.") from error


def check_name(path: Path, folder: Path) -> None:
    """Checks that the file system of an existing folder takes the name of a file.

    Raises:
        LMBError: If it is too long.
    """
    length, longest = len(os.fsencode(path.name)), _LONGEST_NAME
    with contextlib.suppress(OSError, ValueError, AttributeError):
        longest = os.pathconf(folder, "PC_NAME_MAX")
    if length > longest:
        raise LMBError(f"{path}: its name has {length} bytes. Allowed: {longest}.")


def check_folder(folder: Path) -> None:
    """Checks that files can be written into an existing folder, and removes the leftovers of killed runs there.

    Raises:
        LMBError: If it is not writable, or its disk is full.
    """
    try:
        remove_leftovers(folder)
        with signals_wait(), _temporary_in(folder) as (_, file):
            file.write(_PROBE)
            file.flush()
    except OSError as error:
        raise LMBError(f"{folder}: no file can be written into this folder: {error.strerror or error}.") from error


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of killed processes from a folder; what cannot be locked is left alone."""
    if sys.platform == "win32":  # no such locks: nothing is certain
        return
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for path in found:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(handle)


def _place(path: Path) -> Path:
    """Where a file is: where a path is a link, what it leads to."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def _mode_of_file(path: Path) -> int | None:
    """The mode of the file that is to be replaced; None where there is none."""
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise LMBError(f"{path}: it is a folder, pipe or device. Allowed: a file.")
    return mode


@contextlib.contextmanager
def _replacing(path: Path, durable: bool) -> Iterator[tuple[str, BinaryIO]]:
    """Yields as :func:`_temporary_in`; where no exception comes, what was written takes the place of the file.

    A link stays and leads to the new file, which has the mode of the old one.
    """
    path = _place(path)
    mode = _mode_of_file(path)
    with _temporary_in(path.parent) as (temporary, file):
        yield temporary, file
        file.flush()
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        if durable:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _flush_folder(path.parent)


@contextlib.contextmanager
def _temporary_in(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yields the path of a new, locked file and the file; it is removed at the end if it is still there."""
    temporary, handle = _locked_file(folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield temporary, file
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _locked_file(folder: Path) -> tuple[str, int]:
    while True:
        temporary = os.path.join(folder, f".lmb-quant-{secrets.token_hex(8)}.part")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        if sys.platform == "win32":
            return temporary, handle
        with contextlib.suppress(OSError):  # a file system without locks: leftovers stay there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink > 0:  # nobody took it for a leftover in between
            return temporary, handle
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
