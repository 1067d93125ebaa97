# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/files.py: complete or absent, whatever happens meanwhile."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmb_quant import LMBError
from lmb_quant.files import (
    check_new,
    check_writable,
    entries,
    expanded,
    files_ending,
    is_file,
    is_folder,
    make_folder,
    path_written_atomically,
    remove_leftovers,
    write_atomically,
)

WRITER = """
import os, sys, time
from pathlib import Path
import lmb_quant.files as files
replace = os.replace
def slow(*names):
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
    replace(*names)
os.replace = slow
files.write_atomically(Path(sys.argv[1]), b"new")
"""


@contextmanager
def writer(path, seconds):
    """A process that has written its temporary file, and waits before it renames it; killed at the end."""
    command = [sys.executable, "-c", WRITER, path, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_and_replaced(tmp_path, durable):
    path = tmp_path / "x"
    for data in (b"one", b"", bytes(100_000)):
        write_atomically(path, data, durable=durable)
        assert path.read_bytes() == data
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names(tmp_path) == ["plain", "x"]


def test_an_existing_file_keeps_its_mode(tmp_path):
    path = tmp_path / "x"
    path.touch(0o600)
    write_atomically(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "x", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("folder/x")
    check_writable(link)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path / "folder") == ["x"]


def test_a_pipe_is_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    (tmp_path / "link").symlink_to(path)
    for act in (check_writable, lambda path: write_atomically(path, b"new")):
        for name in (path, tmp_path / "link"):
            with pytest.raises(LMBError, match=r"pipe: it is a folder, pipe or device\. Allowed: a file\."):
                act(name)
    assert path.is_fifo()
    assert names(tmp_path) == ["link", "pipe"]


def test_a_library_writes_a_file_by_its_name(tmp_path):
    path = tmp_path / "x"
    for data in (b"one", b"two"):
        with path_written_atomically(path) as temporary:
            Path(temporary).write_bytes(data)
            assert not path.exists() or path.read_bytes() != data
        assert path.read_bytes() == data
    with pytest.raises(ZeroDivisionError), path_written_atomically(path) as temporary:
        Path(temporary).write_bytes(bytes(1 // 0))
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["x"]
    with (
        pytest.raises(LMBError, match="cannot be written: No such file"),
        path_written_atomically(tmp_path / "a" / "b"),
    ):
        pass


def test_a_name_as_long_as_the_system_takes(tmp_path):
    path = tmp_path / ("ä" * 125 + ".png")  # 254 bytes
    check_writable(path)
    write_atomically(path, b"data")
    assert path.read_bytes() == b"data"
    with pytest.raises(LMBError, match=r"its name has 256 bytes\. Allowed: 255"):
        check_writable(tmp_path / ("ä" * 126 + ".png"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_half_file(tmp_path, number):
    (tmp_path / "x").write_bytes(b"old")
    with writer(tmp_path / "x", 0.2) as process:
        process.send_signal(number)
        assert process.wait(30) == -number  # once the file is complete
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"new"


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    others = [".lmb-quant-0123.part", ".lmb-quant-0123456789abcdef.part", "x.png.123.partial"]
    (tmp_path / others[0]).touch()
    (tmp_path / others[2]).touch()
    os.symlink(tmp_path / others[2], tmp_path / others[1])
    with writer(tmp_path / "alive", 60):
        with writer(tmp_path / "killed", 60):
            pass
        assert len(names(tmp_path)) == 5
        remove_leftovers(tmp_path)
        assert len(names(tmp_path)) == 4
    check_writable(tmp_path / "x")
    assert names(tmp_path) == others


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path, "it is a folder"),
        (tmp_path / "none" / "x", "there is no folder '.*none'"),
        (tmp_path / "file" / "x", "there is no folder '.*file'"),
        (tmp_path / ("x" * 300) / "x", "it cannot be reached: File name too long"),
    ):
        with pytest.raises(LMBError, match=message):
            check_writable(path)
    assert names(tmp_path) == ["file"]


def test_a_full_disk(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    program = f"""
import resource, signal
from pathlib import Path
from lmb_quant.errors import LMBError
from lmb_quant.files import check_writable, write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for act in (lambda path: check_writable(path), lambda path: write_atomically(path, bytes(2000))):
    try:
        act(Path({str(tmp_path / "x")!r}))
    except LMBError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    first, second = done.stdout.splitlines()
    assert first == f"{tmp_path}: no file can be written into this folder: File too large."
    assert second == f"{tmp_path / 'x'}: cannot be written: File too large."
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_new_file_takes_no_other_ones_place_unasked(tmp_path):
    path = tmp_path / "x"
    check_new(path)
    path.write_bytes(b"mine")
    with pytest.raises(LMBError, match=r"x: it exists\. Allowed: another name\.$"):
        check_new(path)
    with pytest.raises(LMBError, match=r"x: it exists\. Allowed: another name, or --force to replace it\.$"):
        check_new(path, force=False)
    check_new(path, force=True)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(LMBError, match="link: it exists"):
        check_new(tmp_path / "link")


def test_folders_are_made_and_looked_into(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a")
    (tmp_path / "file").touch()
    assert entries(tmp_path) == [tmp_path / "a", tmp_path / "file"]
    assert [is_folder(path) for path in (*entries(tmp_path), tmp_path / "file" / "x")] == [True, False, False]
    assert [is_file(path) for path in (*entries(tmp_path), tmp_path / "file" / "x")] == [False, True, False]
    for act, message in (
        (make_folder, "the folder cannot be made: Not a directory"),
        (entries, "the folder cannot be read: Not a directory"),
    ):
        with pytest.raises(LMBError, match=message):
            act(tmp_path / "file" / "x")
    for ask in (is_folder, is_file):
        with pytest.raises(LMBError, match="it cannot be reached: File name too long"):
            ask(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_is_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LMBError, match="no file can be written into this folder: Permission denied"):
        check_writable(tmp_path / "x")


def test_files_of_an_ending_are_listed_by_name(tmp_path):
    for name in ("b.PNG", "a.png", ".hidden.png", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in files_ending(tmp_path, (".png",))] == ["a.png", "b.PNG"]


def test_the_home_of_an_unknown_user_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expanded("~/x.pth") == Path("/home/somebody/x.pth")
    assert expanded(Path("~no-such-user/x.pth")) == Path("~no-such-user/x.pth")
