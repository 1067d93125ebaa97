# SPDX-License-Identifier: Apache-2.0
"""validation.jsonl: every validation's figures in full precision, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmb_quant.files import write_atomically

FILE_NAME = "validation.jsonl"


def read_validations(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the validations of a run.

    Args:
        folder: ``experiments/<name>`` or ``results/<name>``.

    Returns:
        In order: ``iter``, ``dataset``, and a figure for each metric; empty if there was none.
    """
    path = Path(folder) / FILE_NAME
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_validations(folder: str | Path, validations: list[dict[str, Any]]) -> None:
    """Replaces the file; a reader never sees a part of it.

    Raises:
        LMBError: If it cannot be written.
    """
    text = "".join(f"{json.dumps(validation)}\n" for validation in validations)
    write_atomically(Path(folder) / FILE_NAME, text.encode())
