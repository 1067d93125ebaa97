# SPDX-License-Identifier: Apache-2.0
"""YAML as users mean it, for recipes, option files and cards.

1e-4 is a number, a date is text, a key given twice is an error.
"""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from lmb_quant.errors import LMBError, named_reason, unknown_name
from lmb_quant.files import expanded

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """A safe loader; YAML 1.1 would let the last of two equal keys win, read ``1e-4`` as text and a date as none."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if key != "<<" and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes what :class:`_Loader` would read as a number, such as the text ``1e4``."""


for _part in (_Loader, _Dumper):
    _part.yaml_implicit_resolvers = {first: list(pairs) for first, pairs in _part.yaml_implicit_resolvers.items()}
    _part.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
for _pairs in _Loader.yaml_implicit_resolvers.values():  # the dumper still quotes dates, for readers that know them
    _pairs[:] = [(tag, pattern) for tag, pattern in _pairs if tag != _TIMESTAMP]


def parse_yaml(text: str) -> Any:
    """Parses YAML text into plain data.

    Raises:
        LMBError: If it is not valid YAML; gives line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise LMBError(f"not valid YAML: {error}") from None
    except Exception as error:  # a value that is not of its tag, as in !!int x, makes the loader raise anything
        raise LMBError(f"not valid YAML: {named_reason(error)}") from None


def dump_yaml(data: Any, width: int = 80) -> str:
    """Writes plain data as YAML that :func:`parse_yaml` reads back; keys stay in their order.

    Args:
        data: What JSON holds.
        width: Characters a line has, about.
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)


def shipped_names(folder: Traversable) -> list[str]:
    """Names of the YAML files of a folder of the package, without their ending, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def find_text(source: str | Path, what: str, folder: Traversable, error: type[LMBError] = LMBError) -> tuple[str, str]:
    """Finds YAML text: a file by its path, or what comes with the package by its name.

    Args:
        source: A path, which ends in .yaml or .yml or holds a slash, or a name.
        what: What it is, for messages.
        folder: Where what comes with the package is.
        error: What is raised.

    Returns:
        The text, and the place where it stands, for messages.

    Raises:
        LMBError: If there is neither, or the file cannot be read.
    """
    name = str(source)
    if isinstance(source, Path) or name.endswith((".yaml", ".yml")) or "/" in name:
        path = expanded(name)
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, ValueError) as reason:
            raise error(f"{path}: cannot read the {what}: {reason}.") from None
    shipped = shipped_names(folder)
    if name not in shipped:
        raise error(f"{unknown_name(what, name, shipped)} A path must end in .yaml or .yml.")
    return folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8"), f"{what} {name!r}"


def parse_mapping(text: str, place: str, what: str) -> dict[str, Any]:
    """Parses YAML text that must be a mapping.

    Args:
        text: The text.
        place: Where it stands, for messages.
        what: What it is, for messages.

    Raises:
        LMBError: If it is not valid YAML, or not a mapping.
    """
    try:
        data = parse_yaml(text)
    except LMBError as error:
        raise LMBError(f"{place}: {error}") from None
    if not isinstance(data, dict):
        raise LMBError(f"{place}: {what} is a mapping, not {type(data).__name__}: {data!r}.")
    return data
