# SPDX-License-Identifier: Apache-2.0
"""The file that the figures of a measurement go to."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmb_quant.files import check_new, write_atomically


def to_json(report: Any) -> str:
    """A dataclass as JSON; what is not a number (the SQNR of equal tensors) is null."""
    return json.dumps(_finite(asdict(report)), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_output(path: Path, text: str) -> None:
    """Writes the figures to a new file.

    Raises:
        LMBError: As :func:`check_new`: the file may have come to be since that was asked before the measurement.
    """
    check_new(path)
    write_atomically(path, text.encode())
