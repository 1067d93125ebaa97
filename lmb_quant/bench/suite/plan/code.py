# SPDX-License-Identifier: Apache-2.0
"""Which code decides a cell beside the code that all cells share: hashes of files, of each byte of them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from lmb_quant import binarizers, rescalers
from lmb_quant.recipe import Recipe
from lmb_quant.versions import package_version


def binarizer_digests(recipe: Recipe | None) -> dict[str, str]:
    """Hashes of the files of the binarisers and rescalers that a recipe names, by kind and name; empty for float."""
    if recipe is None:
        return {}
    schemes = [recipe.scheme, *(recipe.scheme.overridden(o) for o in recipe.overrides if not o.skip_layer)]
    rescales = {scheme.rescale.rescaler for scheme in schemes if scheme.rescale is not None}
    named: dict[str, tuple[Mapping[str, type], set[str]]] = {
        "activation": (binarizers.activation_binarizers(), {scheme.activation.binarizer for scheme in schemes}),
        "weight": (binarizers.weight_binarizers(), {scheme.weight.binarizer for scheme in schemes}),
        "rescale": (rescalers.rescalers(), rescales),
    }
    return {
        f"{kind} {name}": _digest(Path(inspect.getfile(table[name])))
        for kind, (table, names) in named.items()
        for name in sorted(names)
        if name in table  # an unknown one is an error where the network is built
    }


def minor_version(package: str) -> str:
    """Major and minor version of a package, ``2.13``, or ``not installed``."""
    return ".".join(package_version(package).split(".")[:2])


def integration_digest(name: str) -> str:
    """Hash of a file of the integrations, such as ``torchao/int8.py``."""
    return _digest(files("lmb_quant.integrations").joinpath(name))


def _digest(file: Any) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
