# SPDX-License-Identifier: Apache-2.0
"""Photographs are copied whole, and the demo takes no folder with files of others."""

import pytest

from lmb_quant import LMBError, photographs
from lmb_quant.demo.folder import take_folder
from lmb_quant.photographs import copy_photographs


def test_a_copy_is_whole_or_absent(tmp_path, monkeypatch):
    (tmp_path / "source.png").write_bytes(b"photograph")
    monkeypatch.setattr(photographs, "shipped_photograph", lambda name: tmp_path / "source.png")
    folder = tmp_path / "new" / "training"
    copy_photographs(folder, ["a.png", "b.png"])
    (folder / "a.png").write_bytes(b"other")
    (folder / "b.png").unlink()
    monkeypatch.setattr("os.replace", lambda *names: 1 // 0)  # the process ends before the last step
    with pytest.raises(ZeroDivisionError):
        copy_photographs(folder, ["a.png", "b.png"])
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    monkeypatch.undo()
    assert (folder / "a.png").read_bytes() == b"other"


def test_the_demo_replaces_files_of_its_own_only(tmp_path):
    take_folder(tmp_path / "new")
    (tmp_path / "new" / "upscaled.png").touch()
    take_folder(tmp_path / "new")
    with pytest.raises(LMBError, match=r"holds files that are not the demo's. Allowed: a new folder, an empty one, or"):
        take_folder(tmp_path)
    with pytest.raises(LMBError, match="the folder cannot be made: Not a directory"):
        take_folder(tmp_path / "new" / "upscaled.png" / "x")
