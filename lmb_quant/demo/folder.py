# SPDX-License-Identifier: Apache-2.0
"""The demo's folder: its own, so that no file of the user's is replaced."""

from __future__ import annotations

from pathlib import Path

from lmb_quant.errors import LMBError
from lmb_quant.files import entries, is_file, make_folder, write_atomically

_MARK = ".lmb-quant-demo"


def take_folder(folder: Path) -> None:
    """Makes a folder for the demo, or goes on in that of an earlier one.

    Raises:
        LMBError: If it holds files that no demo wrote, or cannot be made.
    """
    make_folder(folder)
    if is_file(folder / _MARK):
        return
    if entries(folder):
        raise LMBError(
            f"--folder: {str(folder)!r} holds files that are not the demo's. Allowed: a new folder, an empty one, or "
            "that of an earlier demo."
        )
    write_atomically(folder / _MARK, b"lmb-quant demo works in this folder and replaces files of its own.\n")
