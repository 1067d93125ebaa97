# SPDX-License-Identifier: Apache-2.0
"""From a suite and its images to its cells."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from lmb_quant.archs import ARCHITECTURES
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.integrations.basicsr.archs import upscale_argument
from lmb_quant.recipe import Recipe

from .cell import Cell
from .code import binarizer_digests, minor_version
from .data import SuiteData
from .methods import Method, resolve_methods
from .schema import Network, Suite, Training
from .schemes import QAT, host_settings


def make_cells(suite: Suite, data: SuiteData) -> list[Cell]:
    """Lists a suite's cells, seeds outermost, so that an unfinished run has every method.

    Raises:
        LMBError: If a method or an architecture is unknown, a method has none of its network's seeds, or a rate is that
            of a method which is not there.
    """
    _check_rates(suite)
    cells: dict[str, Cell] = {}
    own = [seed for network in suite.networks.values() for seed in network.seeds or ()]
    for seed in dict.fromkeys([*suite.seeds, *own]):
        for upscale in suite.upscale:
            for label, network in suite.networks.items():
                if seed not in (network.seeds or suite.seeds):
                    continue
                for method in _methods(suite, label, network):
                    if method.seeds is not None and seed not in method.seeds:
                        continue
                    cell = _cell(suite, data, label, network, method, upscale, seed)
                    cells.setdefault(cell.name, cell)
    return list(cells.values())


def trainings(cells: Sequence[Cell]) -> dict[str, Cell]:
    """The first cell of each training, by training key: those after it only evaluate the same network otherwise."""
    return {cell.training_key: cell for cell in reversed(cells)}


def rated(suite: Suite) -> dict[tuple[str, str], str]:
    """The names under which methods have their rates, by network and method."""
    return {
        (label, method.name): method.rated
        for label, network in suite.networks.items()
        for method in _methods(suite, label, network)
        if method.is_trained
    }


def select(cells: Sequence[Cell], pattern: str | None) -> list[Cell]:
    """The cells whose name, or a part of it between slashes, matches a glob; None selects all.

    Raises:
        LMBError: If it matches none.
    """
    if pattern is None:
        return list(cells)
    found = [cell for cell in cells if matches(cell.name, pattern)]
    if not found:
        parts = sorted({part for cell in cells for part in cell.name.split("/")})
        raise LMBError(f"--only: {pattern!r} matches no cell, such as {cells[0].name!r}. Parts: {', '.join(parts)}.")
    return found


def matches(name: str, pattern: str) -> bool:
    """Whether a cell's name, or a part of it between slashes, matches a glob."""
    return any(fnmatchcase(text, pattern) for text in (name, *name.split("/")))


def _methods(suite: Suite, label: str, network: Network) -> list[Method]:
    own = network.methods
    place = suite.place if own is None else f"{suite.place}: networks.{label}"
    methods = resolve_methods(suite.methods if own is None else own, place)
    seeds = network.seeds or suite.seeds
    for method in methods:
        unknown = [seed for seed in method.seeds or () if seed not in seeds]
        if unknown:
            raise LMBError(f"{place}: method {method.name!r}: seeds: {unknown[0]} is not allowed. Allowed: of {seeds}.")
    return methods


def _cell(suite: Suite, data: SuiteData, label: str, network: Network, method: Method, upscale: int, seed: int) -> Cell:
    trained = method.is_trained
    host = None if method.host is None else host_settings(method.host)
    network_g = _network_g(network.arch, method.recipe, upscale, suite.place) if trained else None
    code = binarizer_digests(method.recipe)
    if host is not None and host.scheme == QAT:
        network_g = {"type": "LMBInt8", "arch": network_g, "activation_bits": host.activation_bits}
        code = {QAT: str(host.code), "torchao": str(host.torchao)}
    return Cell(
        network=label if trained else "none",
        method=method.name,
        upscale=upscale,
        seed=seed if trained else suite.seeds[0],
        network_g=network_g,
        hooks=(*suite.training.hooks, *method.hooks) if trained else (),
        training=_training(suite, network, method),
        threads=suite.threads,
        train=data.train,
        test=data.test,
        validation=suite.data.curve_set,
        torch=minor_version("torch"),
        binarizers=code,
        host=host,
    )


def _training(suite: Suite, network: Network, method: Method) -> Training:
    rate = {**suite.rates, **network.rates}.get(method.rated)
    if rate is None:
        return suite.training
    return suite.training.model_copy(update={"optimizer": {**suite.training.optimizer, "lr": rate}})


def _check_rates(suite: Suite) -> None:
    names = rated(suite)
    for label, network in suite.networks.items():
        own = [name for (of, _), name in names.items() if of == label]
        _check_names(network.rates, own, f"{suite.place}: networks.{label}.rates")
    _check_names(suite.rates, list(names.values()), f"{suite.place}: rates")


def _check_names(rates: dict[str, float], known: list[str], where: str) -> None:
    for name in rates:
        if name not in known:
            raise LMBError(f"{where}: {unknown_name('method', name, tuple(dict.fromkeys(known)))}")


def _network_g(arch: dict[str, Any], recipe: Recipe | None, upscale: int, place: str) -> dict[str, Any]:
    """The architecture with its SR factor and recipe. What a recipe says of itself decides nothing and is left out."""
    kind = str(arch.get("type"))
    argument = upscale_argument(kind, f"{place}: networks")
    for key in (argument, "recipe"):
        if key in arch:
            raise LMBError(f"{place}: networks: arch: the key {key!r} is not allowed: the suite fills it in.")
    full = {**arch, argument: upscale}
    plain = None if recipe is None else {**recipe.to_dict(), "metadata": {"name": "method"}}
    if kind in ARCHITECTURES:  # it takes the recipe itself
        return {**full, "recipe": plain}
    return {"type": "LMBBinarized", "recipe": plain, "arch": full}
