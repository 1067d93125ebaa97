# SPDX-License-Identifier: Apache-2.0
"""Versions and machine, as they stand in every result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from lmb_quant.machine import cpu_name

from .code import training_code

_PACKAGES = ("lmb-quant", "torch", "torchvision", "numpy", "torchao", "basicsr", "opencv-python-headless", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, and the hash of the training code."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "training code": training_code()}


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


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
