# SPDX-License-Identifier: Apache-2.0
"""Versions of packages as they are installed. Imports no torch."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of packages, ``"not installed"`` where there is none."""
    return {"python": platform.python_version(), **{package: package_version(package) for package in packages}}


def package_version(package: str) -> str:
    """The version of a package, ``"not installed"`` where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


__version__ = package_version("lmb-quant")
