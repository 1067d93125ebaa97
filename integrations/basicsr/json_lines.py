# SPDX-License-Identifier: Apache-2.0
"""Files of one JSON object a line: runs.jsonl and validation.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmb_quant.errors import LMBError
from lmb_quant.files import write_atomically


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file; empty if there is none.

    Raises:
        LMBError: If it cannot be read or a line is no JSON object, the last one too: the file is written as a whole,
            so a kill leaves no half line, and what is damaged was damaged by something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise LMBError(f"{path}: cannot be read: {error}.") from None
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Replaces a file; a reader never sees a part of it.

    Raises:
        LMBError: If it cannot be written.
    """
    write_atomically(path, "".join(f"{json.dumps(entry)}\n" for entry in entries).encode())


def _parsed(line: str, place: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise LMBError(f"{place}: {line[:80]!r} is no JSON object. Mend it or remove the line.")
    return entry
