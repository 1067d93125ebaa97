# SPDX-License-Identifier: Apache-2.0
"""Binarisers: one file a method, found by walking this folder; docs/adding_a_binarizer.md shows how."""

import importlib
import pkgutil

from ._base import ActivationBinarizer as ActivationBinarizer
from ._base import Chain as Chain
from ._base import Golden as Golden
from ._base import Place as Place
from ._base import WeightBinarizer as WeightBinarizer
from ._base import set_progress as set_progress
from ._registry import activation_binarizer as activation_binarizer
from ._registry import activation_binarizers as activation_binarizers
from ._registry import make_activation as make_activation
from ._registry import make_weight as make_weight
from ._registry import weight_binarizer as weight_binarizer
from ._registry import weight_binarizers as weight_binarizers

for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_file.name}")
