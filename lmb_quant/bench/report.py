# SPDX-License-Identifier: Apache-2.0
"""The file that the figures of a measurement go to."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmb_quant.errors import LMBError


def to_json(report: Any) -> str:
    """A dataclass as JSON; what is not a number (the SQNR of equal tensors) is null."""
    return json.dumps(_finite(asdict(report)), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_output(path: Path | None) -> None:
    """Checks, before minutes of measuring, that the figures can be written.

    Raises:
        LMBError: If the file exists, or its folder does not.
    """
    if path is None:
        return
    if path.exists() or path.is_symlink():
        raise LMBError(f"--output: {str(path)!r} exists and is not overwritten. Name another file.")
    if not path.parent.is_dir():
        raise LMBError(f"--output: {str(path)!r}: there is no folder {str(path.parent)!r}. Make it first.")
    if not os.access(path.parent, os.W_OK):
        raise LMBError(f"--output: {str(path)!r}: the folder {str(path.parent)!r} is not writable.")


def write_output(path: Path, text: str) -> None:
    """Writes the figures to a new file.

    Raises:
        LMBError: If the file came to be since it was checked.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise LMBError(f"--output: {str(path)!r} exists and is not overwritten. Name another file.") from None
