# SPDX-License-Identifier: Apache-2.0
"""Option files: finding them, reading them, overriding their values."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import expanded, is_file
from lmb_quant.strict_yaml import parse_mapping, parse_yaml


def shipped_options() -> dict[str, Path]:
    """The option files that come with the package, by file name."""
    root = Path(str(files("lmb_quant.integrations.basicsr"))) / "options"
    return {path.name: path for path in sorted(root.glob("*/*.yml"))}


def find_option_file(name: str) -> Path:
    """Finds an option file: a path, or the name of a shipped one.

    Raises:
        LMBError: If there is neither, or it cannot be reached.
    """
    path = expanded(name)
    if is_file(path):
        return path
    shipped = shipped_options()
    if path.name in shipped and str(path.parent) == ".":
        return shipped[path.name]
    raise LMBError(f"-opt: there is no file {name!r}, and {unknown_name('shipped option file', path.name, shipped)}")


def read_options(path: Path) -> dict[str, Any]:
    """Reads an option file.

    Raises:
        LMBError: If it cannot be read or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LMBError(f"{path}: cannot be read: {error}.") from None
    return parse_mapping(text, str(path), "an option file")


def override(opt: dict[str, Any], entries: Sequence[str]) -> None:
    """Applies ``--force_yml`` entries in place: ``section:key=value``, the value in YAML.

    Args:
        opt: Options.
        entries: For example ``train:optim_g:lr=1e-4`` or ``datasets:train:dataroot_gt=[a, b]``; in a list, a key is a
            place: ``train:hooks:0:limit=2``. A last key may be new, the sections before it must exist.

    Raises:
        LMBError: If an entry is malformed or names an unknown section.
    """
    for entry in entries:
        keys, equals, text = entry.partition("=")
        if not equals or not keys.strip():
            raise LMBError(f"--force_yml: {entry!r} is not allowed. Allowed: KEY:KEY=VALUE.")
        try:
            value = parse_yaml(text)
        except LMBError as error:
            raise LMBError(f"--force_yml: {entry!r}: {error}") from None
        *sections, last = (key.strip() for key in keys.split(":"))
        node: Any = opt
        for section in sections:
            node = node[_key(node, section, entry)]
        if isinstance(node, dict):
            node[last] = value
        else:
            node[_key(node, last, entry)] = value


def _key(node: Any, key: str, entry: str) -> Any:
    """The key of a section of ``node``, which is a mapping or a list."""
    if isinstance(node, dict) and key in node:
        return key
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return int(key)
    allowed = node if isinstance(node, dict) else map(str, range(len(node))) if isinstance(node, list) else ()
    raise LMBError(f"--force_yml: {entry!r}: {unknown_name('section', key, allowed)}")
