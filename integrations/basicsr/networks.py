# SPDX-License-Identifier: Apache-2.0
"""The section ``network_g``: checked, and built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError
from lmb_quant.integrations._keywords import check_keywords

from basicsr.archs import build_network

from .archs import ARCHITECTURES, find_architecture
from .option_read import find_option_file, read_options
from .rng import isolated_rng

WRAPPERS = ("LMBBinarized", "LMBInt8")
"""Entries of ``network_g`` that change another network, which stands whole under ``arch``."""


def check_network(opt: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Checks the section ``network_g`` and returns it, with ints in place of whole numbers written as floats.

    Raises:
        LMBError: If it is missing, names no architecture, or the architecture has no such argument.
    """
    if not isinstance(opt.get("network_g"), Mapping):
        raise LMBError(f"{place}: the section 'network_g' is missing.")
    network: dict[str, Any] = _without_points(opt["network_g"])
    _check_architecture(network, f"{place}: network_g")
    return network


def with_upscale(opt: Mapping[str, Any], upscale: int | None, place: str) -> dict[str, Any]:
    """Gives a network that was trained on enlarged images, for several SR factors, one of them.

    Args:
        opt: The options.
        upscale: The factor; None leaves the options as they are.
        place: The file, for messages.

    Returns:
        A copy with it as ``network_g``'s ``upscale`` and as ``scale``.

    Raises:
        LMBError: If the network has a factor of its own.
    """
    if upscale is None:
        return dict(opt)
    network = check_network(opt, place)
    if network.get("upscale") != 1:
        raise LMBError(
            f"--upscale: {upscale} does not fit {place}, whose network_g has upscale: {network.get('upscale')!r}. "
            "Allowed: for a network that was trained on enlarged images, with upscale: 1."
        )
    return {**opt, "network_g": {**network, "upscale": upscale}, "scale": upscale}


def _without_points(value: Any) -> Any:
    """Arguments in which 5e3, which YAML reads as a float and no network takes for a count, is an int."""
    if isinstance(value, Mapping):
        return {key: item if key == "recipe" else _without_points(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_points(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_architecture(network: Mapping[str, Any], place: str) -> None:
    kind = network.get("type")
    architecture = find_architecture(kind, place)
    check_keywords(f"{place}: {kind}", architecture, {key: value for key, value in network.items() if key != "type"})
    if kind in WRAPPERS:
        if not isinstance(network["arch"], Mapping):
            raise LMBError(f"{place}: arch: {network['arch']!r} is not allowed. Allowed: a mapping with 'type'.")
        _check_architecture(network["arch"], f"{place}.arch")


def innermost(network: Mapping[str, Any]) -> Mapping[str, Any]:
    """The network itself, where ``network_g`` is one of :data:`WRAPPERS`."""
    while network["type"] in WRAPPERS:
        network = network["arch"]
    return network


def float_network(option_file: str) -> tuple[nn.Module, Any]:
    """Builds the network of an option file without its recipe.

    Args:
        option_file: Path, or name of a shipped option file.

    Returns:
        The float network, and the recipe it would get (None for none).

    Raises:
        LMBError: If the file or its ``network_g`` is wrong.
    """
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
    path = find_option_file(option_file)
    options = check_network(read_options(path), str(path))
    network = innermost(options)
    return build_of(path, options), int(network.get("arch", network).get("num_in_ch", 3))  # LMBHeInit has an arch too


def build_of(path: str | Path, network: dict[str, Any]) -> nn.Module:
    """Builds ``network_g`` of an option file.

    Raises:
        LMBError: If it cannot be built; names the file.
    """
    try:
        return build(network)
    except LMBError as error:
        raise LMBError(f"{path}: network_g: {error}") from None
    except Exception as error:  # architectures raise anything on odd values
        kind = network["type"]
        raise LMBError(f"{path}: network_g: {kind} cannot be built with these arguments: {error!r}") from error


def build(network: dict[str, Any]) -> nn.Module:
    """Builds ``network_g``, without disturbing the random number generators."""
    with isolated_rng():
        net: nn.Module = build_network(network)
    return net
