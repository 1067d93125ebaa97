# SPDX-License-Identifier: Apache-2.0
"""Imports torchvision where its compiled operators do not fit the installed torch."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

_needed_fix = False


def import_torchvision() -> bool:
    """Imports torchvision; without its compiled operators where they do not load.

    PyPI's torchvision is a CUDA build: with a CPU torch its operators are missing, and ``import torchvision`` fails as
    it describes their shapes to torch. Here those descriptions are left out. Its transforms, models and datasets work;
    its operators (``nms``, ``roi_align``, ...) do not. Call it before anything that imports torchvision.

    Returns:
        Whether that was needed, at the first call that imported it.

    Raises:
        ImportError: If torchvision is not installed.
        RuntimeError: If it cannot be imported for another reason.
    """
    global _needed_fix
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _import_without_operators()
        _needed_fix = True
    return _needed_fix


def _import_without_operators() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    register = torch.library.register_fake

    def tolerant(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return register(op, *args, **kwargs)

    torch.library.register_fake = tolerant
    try:
        importlib.import_module("torchvision")
    finally:
        torch.library.register_fake = register
