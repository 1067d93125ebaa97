# SPDX-License-Identifier: Apache-2.0
"""runs.jsonl: when, with what and on what a training was begun and continued, one JSON object a line."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lmb_quant.machine import Machine, source_commit
from lmb_quant.versions import package_versions

from .json_lines import read_lines, write_lines

FILE_NAME = "runs.jsonl"
_PACKAGES = ("lmb-quant", "torch", "basicsr", "numpy")


def read_runs(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the record of a training.

    Args:
        folder: ``experiments/<name>``.

    Returns:
        For each start: ``iter`` that it went on from, ``seed``, ``started`` (UTC), ``commit`` of lmb-quant's checkout
        or null, ``versions``, ``machine``, ``threads``.

    Raises:
        LMBError: If the file is damaged.
    """
    return read_lines(Path(folder) / FILE_NAME)


def record_run(folder: str | Path, first: int, seed: int) -> None:
    """Adds this process to the record; ``first`` is the iteration that it goes on from, ``seed`` the training's.

    Raises:
        LMBError: If the file is damaged or cannot be written.
    """
    entry = {
        "iter": first,
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": source_commit(),
        "versions": package_versions(_PACKAGES),
        "machine": asdict(Machine()),
        "threads": torch.get_num_threads(),
    }
    write_lines(Path(folder) / FILE_NAME, [*read_runs(folder), entry])
