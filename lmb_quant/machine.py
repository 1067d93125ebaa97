# SPDX-License-Identifier: Apache-2.0
"""What a result was made on and with: machine, versions, commit; plain words."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmb_quant.ops import active_kernel

_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_vpopcntdq",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "neon",
    "asimd",
)
_RESTRICTING = ("LMB_QUANT_ISA", "LMB_QUANT_KERNELS", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def cpu_name() -> str:
    """The name that the CPU gives itself."""
    found = re.search(r"model name\s*:\s*(.+)", _cpu_info())
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Its instruction sets, of those that matter to binary and quantised layers."""
    found = re.search(r"(?:flags|Features)\s*:\s*(.+)", _cpu_info())
    flags = found.group(1).split() if found else []
    return [flag for flag in _FLAGS if flag in flags]


def multiplies_bf16() -> bool:
    """Whether the CPU has instructions for bf16 products; without them PyTorch is slower in bf16 than in fp32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


@dataclass(frozen=True)
class Machine:
    """What a figure was measured on, the same in every report and record.

    ``flags`` are the CPU's instruction sets, ``pytorch_isa`` what PyTorch uses of them, ``packed`` what runs packed
    layers; ``cores`` are those of this process; ``restricted`` are the variables that hold instruction sets back.
    """

    cpu: str = field(default_factory=cpu_name)
    flags: tuple[str, ...] = field(default_factory=lambda: tuple(cpu_flags()))
    cores: int = field(default_factory=cores)
    gpu: str = field(default_factory=_gpu)
    system: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
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


def in_words(record: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a :class:`Machine` as they were read from a file, each as text; empty ones are left out."""
    texts = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            value = [f"{key}={inner}" for key, inner in value.items()]
        texts[name] = " ".join(value) if isinstance(value, (list, tuple)) else str(value)
    return {name: text for name, text in texts.items() if text}


def source_commit() -> str | None:
    """The git commit of this package's checkout, with ``-dirty`` where files differ from it; None outside of one."""
    git, here = shutil.which("git"), Path(__file__).resolve().parent
    if git is None or not (here.parent / ".git").exists():
        return None
    command = [git, "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""
