# SPDX-License-Identifier: Apache-2.0
"""Versions, as they stand in every result."""

from __future__ import annotations

from lmb_quant.machine import package_versions

from .code import training_code

_PACKAGES = ("lmb-quant", "torch", "torchvision", "numpy", "torchao", "basicsr", "opencv-python-headless", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, and the hash of the training code."""
    return {**package_versions(_PACKAGES), "training code": training_code()}
