# SPDX-License-Identifier: Apache-2.0
"""Which code made a result: hashes of syntax trees, so that comments, docstrings and layout do not count."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import lmb_quant
import lmb_quant.integrations
from lmb_quant import binarizers
from lmb_quant.recipe import Recipe

# What the training of a cell runs. Packing and kernels are not among it; binarisers are hashed one by one.
_SHARED = ("archs", "modules", "ops", "rewrite.py", "structure.py", "integrations/basicsr")
_OTHER = ("ops/binary_conv2d", "modules/packed.py", "integrations/basicsr/hooks/progress_bar.py")


def binarizer_digests(recipe: Recipe | None) -> dict[str, str]:
    """Hashes of the files of the binarisers and rescalers that a recipe names, by kind and name; empty for float."""
    if recipe is None:
        return {}
    schemes = [recipe.scheme, *(recipe.scheme.overridden(o) for o in recipe.overrides if not o.skip_layer)]
    rescales = {scheme.rescale.rescaler for scheme in schemes if scheme.rescale is not None}
    named: dict[str, tuple[Mapping[str, type], set[str]]] = {
        "activation": (binarizers.activation_binarizers(), {scheme.activation.binarizer for scheme in schemes}),
        "weight": (binarizers.weight_binarizers(), {scheme.weight.binarizer for scheme in schemes}),
        "rescale": (binarizers.rescalers(), rescales),
    }
    return {
        f"{kind} {name}": _digest([Path(inspect.getfile(table[name]))])
        for kind, (table, names) in named.items()
        for name in sorted(names)
        if name in table  # an unknown one is an error where the network is built
    }


def file_digest(name: str) -> str:
    """Hash of one file's code; the name is relative to the package, ``integrations/torchao/int8.py``."""
    return _digest([_path(name)])


@cache
def training_code() -> str:
    """Hash of the code that all cells' training shares."""
    roots = [_path(name) for name in _SHARED]
    paths = [path for root in roots for path in (sorted(root.rglob("*.py")) if root.is_dir() else [root])]
    return _digest(path for path in paths if not any(part in path.as_posix() for part in _OTHER))


def _path(name: str) -> Path:
    """Integrations may lie elsewhere than the rest of the package."""
    if name.startswith("integrations/"):
        return Path(inspect.getfile(lmb_quant.integrations)).parent / name.removeprefix("integrations/")
    return Path(lmb_quant.__file__).parent / name


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(f"{path.name}\n{_essence(path)}\n".encode())
    return digest.hexdigest()


@cache
def _essence(path: Path) -> str:
    """A file's syntax tree as text, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return ast.dump(tree)
