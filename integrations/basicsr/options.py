# SPDX-License-Identifier: Apache-2.0
"""Option files: finding them, reading them, overriding their values, building their networks."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.strict_yaml import parse_mapping, parse_yaml

from basicsr.archs import build_network

from .archs import ARCHITECTURES
from .rng import isolated_rng


def shipped_options() -> dict[str, Path]:
    """The option files that come with the package, by file name."""
    root = Path(str(files("lmb_quant.integrations.basicsr"))) / "options"
    return {path.name: path for path in sorted(root.glob("*/*.yml"))}


def find_option_file(name: str) -> Path:
    """Finds an option file: a path, or the name of a shipped one.

    Raises:
        LMBError: If there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
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


def float_network(option_file: str) -> tuple[nn.Module, Any]:
    """Builds the network of an option file without its recipe.

    Args:
        option_file: Path, or name of a shipped option file.

    Returns:
        The float network, and the recipe it would get (None for none).

    Raises:
        LMBError: If the file or its ``network_g`` is wrong.
    """
    from .option_check import check_network

    path = find_option_file(option_file)
    options = check_network(read_options(path), str(path))
    if options["type"] not in [architecture.__name__ for architecture in ARCHITECTURES]:
        return build_of(path, options), None
    return build_of(path, {**options, "recipe": None}), options.get("recipe", "lmb")


def built_network(option_file: str) -> tuple[nn.Module, int]:
    """Builds the network of an option file.

    Args:
        option_file: Path, or name of a shipped option file.

    Returns:
        The network, and the channels of the image it reads.

    Raises:
        LMBError: If the file or its ``network_g`` is wrong.
    """
    from .option_check import check_network

    path = find_option_file(option_file)
    options = check_network(read_options(path), str(path))
    return build_of(path, options), int(options.get("arch", options).get("num_in_ch", 3))


def build_of(path: str | Path, network: dict[str, Any]) -> nn.Module:
    """Builds ``network_g`` of an option file.

    Raises:
        LMBError: If it cannot be built; names the file.
    """
    try:
        return build(network)
    except LMBError as error:
        raise LMBError(f"{path}: network_g: {error}") from None
    except (TypeError, ValueError, AssertionError, NotImplementedError, KeyError) as error:
        kind = network["type"]
        raise LMBError(f"{path}: network_g: {kind} cannot be built with these arguments: {error!r}") from error


def build(network: dict[str, Any]) -> nn.Module:
    """Builds ``network_g``, without disturbing the random number generators."""
    with isolated_rng():
        net: nn.Module = build_network(network)
    return net
