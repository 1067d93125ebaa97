# SPDX-License-Identifier: Apache-2.0
"""Rescalers: factors from a layer's real input; one file a rescaler, found by walking this folder."""

import importlib
import pkgutil

from ._base import Rescaler as Rescaler
from ._registry import make_rescaler as make_rescaler
from ._registry import rescaler as rescaler
from ._registry import rescalers as rescalers

for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_file.name}")
