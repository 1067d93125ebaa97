# SPDX-License-Identifier: Apache-2.0
"""What results were made with, as it stands in each of them."""

from __future__ import annotations

from dataclasses import asdict

from lmb_quant.machine import Machine, source_commit
from lmb_quant.versions import package_versions

from .plan.cell import content_hash

_PACKAGES = ("lmb-quant", "torch", "torchvision", "numpy", "torchao", "basicsr", "opencv-python-headless", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, and the commit of this package's checkout."""
    return {**package_versions(_PACKAGES), "commit": source_commit() or "not recorded"}


def machine_key() -> str:
    """Hash of what latency holds for: the machine, however many cores a process has, and what computes."""
    software = package_versions(("lmb-quant", "torchao"))
    return content_hash({**asdict(Machine()), "cores": None, **software})
