# SPDX-License-Identifier: Apache-2.0
"""What every report of a measurement says beside its figures, and the file it goes to."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmb_quant.errors import LMBError
from lmb_quant.machine import cpu_flags, cpu_name
from lmb_quant.ops import active_kernel

_RESTRICTING = ("LMB_QUANT_ISA", "LMB_QUANT_KERNELS", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


@dataclass(frozen=True)
class Machine:
    """What the figures hold for: CPU, instruction sets in use, version of PyTorch, variables that restrict them."""

    cpu: str = field(default_factory=cpu_name)
    flags: tuple[str, ...] = field(default_factory=lambda: tuple(cpu_flags()))
    pytorch: str = field(default_factory=lambda: str(torch.__version__))
    pytorch_isa: str = field(default_factory=torch.backends.cpu.get_cpu_capability)
    packed: str = field(default_factory=active_kernel)
    restricted: dict[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in _RESTRICTING if os.environ.get(name)}
    )

    def __str__(self) -> str:
        restricted = "".join(f", {name}={value}" for name, value in self.restricted.items())
        return (
            f"{self.cpu} ({', '.join(self.flags) or 'no known instruction set'}); PyTorch {self.pytorch}, "
            f"{self.pytorch_isa}; packed layers: {self.packed}{restricted}"
        )


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
