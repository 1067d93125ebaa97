# SPDX-License-Identifier: Apache-2.0
"""What a result was made on and with: machine, versions, commit; plain words."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

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


def cpu_name() -> str:
    """The name that the CPU gives itself."""
    found = re.search(r"model name\s*:\s*(.+)", _cpu_info())
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Its instruction sets, of those that matter to binary and quantised layers."""
    found = re.search(r"(?:flags|Features)\s*:\s*(.+)", _cpu_info())
    flags = found.group(1).split() if found else []
    return [flag for flag in _FLAGS if flag in flags]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str]:
    """CPU, its cores for this process, instruction set as PyTorch sees it, GPU, system."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "cpu": cpu_name(),
        "cores": str(cores()),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
    }


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of packages, ``"not installed"`` where there is none."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


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
