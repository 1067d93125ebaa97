# SPDX-License-Identifier: Apache-2.0
"""validation.jsonl: every validation's figures in full precision, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .json_lines import read_lines, write_lines

FILE_NAME = "validation.jsonl"


def read_validations(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the validations of a run.

    Args:
        folder: ``experiments/<name>`` or ``results/<name>``.

    Returns:
        In order: ``iter``, ``dataset``, and a figure for each metric; empty if there was none.

    Raises:
        LMBError: If the file is damaged.
    """
    return read_lines(Path(folder) / FILE_NAME)


def write_validations(folder: str | Path, validations: list[dict[str, Any]]) -> None:
    """Replaces the file; a reader never sees a part of it.

    Raises:
        LMBError: If it cannot be written.
    """
    write_lines(Path(folder) / FILE_NAME, validations)
