# SPDX-License-Identifier: Apache-2.0
"""The CPU in words."""

from __future__ import annotations

import platform
import re
from pathlib import Path

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_vpopcntdq", "avx512_bf16", "amx_int8", "neon", "asimd")


def cpu_name() -> str:
    """The name that the CPU gives itself."""
    found = re.search(r"model name\s*:\s*(.+)", _cpu_info())
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Its instruction sets, of those that matter to binary and quantised layers."""
    found = re.search(r"(?:flags|Features)\s*:\s*(.+)", _cpu_info())
    flags = found.group(1).split() if found else []
    return [flag for flag in _FLAGS if flag in flags]


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""
