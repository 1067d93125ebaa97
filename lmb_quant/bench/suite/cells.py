# SPDX-License-Identifier: Apache-2.0
"""Cells: one network under one method at one SR factor with one seed, and the key that its content has."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.archs import upscale_argument
from lmb_quant.recipe import Recipe

from .code import binarizer_digests
from .data import ImageSet, SuiteData
from .hosts import QAT, HostSettings, host_settings
from .methods import Method, resolve_methods
from .schema import Network, Suite, Training

KEY_VERSION = 1
"""Part of every key; raised when a change of the suite's own code makes old results incomparable."""

_OWN_RECIPE = ("LMBSRResNet", "LMBVDSR")


class Cell(BaseModel):
    """All that decides one result; data only, so that another process or machine can do it.

    ``network_g`` is the section of BasicSR's option file, or None for bicubic enlargement. ``host`` says what a host
    makes of the network afterwards: cells that differ in it alone share one training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    network: str
    method: str
    upscale: int
    seed: int
    network_g: dict[str, Any] | None
    hooks: tuple[dict[str, Any], ...]
    training: Training
    threads: int
    train: tuple[ImageSet, ...]
    test: tuple[ImageSet, ...]
    validation: str
    torch: str
    binarizers: dict[str, str]
    host: HostSettings | None = None

    @property
    def name(self) -> str:
        """``network/method/x4/seed0``."""
        return f"{self.network}/{self.method}/x{self.upscale}/seed{self.seed}"

    @property
    def steps(self) -> int:
        """Training steps; none for bicubic enlargement."""
        return self.training.steps if self.network_g else 0

    @property
    def training_key(self) -> str:
        """Hash of all that decides the trained network and its training curve; names and places do not."""
        if self.network_g is None:
            return content_hash({"bicubic": self.upscale})
        validation = next(images.digest for images in self.test if images.name == self.validation)
        content = self.model_dump(exclude={"network", "method", "train", "test", "validation", "host"})
        data = {"train": [images.digest for images in self.train], "validation": validation}
        return content_hash({"version": KEY_VERSION, **content, **data})

    @property
    def key(self) -> str:
        """Hash of all that decides the result: the training, the test sets, what a host does after training."""
        host = [] if self.host is None else [self.host.model_dump()]
        return content_hash([self.training_key, [[images.name, images.digest] for images in self.test], *host])


def make_cells(suite: Suite, data: SuiteData) -> list[Cell]:
    """Lists a suite's cells, seeds outermost, so that an unfinished run has every method.

    Raises:
        LMBError: If a method or an architecture is unknown, or a method has none of its network's seeds.
    """
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


def select(cells: Sequence[Cell], pattern: str | None) -> list[Cell]:
    """The cells whose name, or a part of it between slashes, matches a glob; None selects all.

    Raises:
        LMBError: If it matches none.
    """
    if pattern is None:
        return list(cells)
    found = [cell for cell in cells if any(fnmatchcase(text, pattern) for text in (cell.name, *cell.name.split("/")))]
    if not found:
        parts = sorted({part for cell in cells for part in cell.name.split("/")})
        raise LMBError(f"--only: {pattern!r} matches no cell, such as {cells[0].name!r}. Parts: {', '.join(parts)}.")
    return found


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
        training=suite.training,
        threads=suite.threads,
        train=data.train,
        test=data.test,
        validation=suite.data.validation or suite.data.test[0],
        torch=_minor(version("torch")),
        binarizers=code,
        host=host,
    )


def _network_g(arch: dict[str, Any], recipe: Recipe | None, upscale: int, place: str) -> dict[str, Any]:
    """The architecture with its SR factor and recipe. What a recipe says of itself decides nothing and is left out."""
    kind = str(arch.get("type"))
    try:
        argument = upscale_argument(kind)
    except LMBError as error:
        raise LMBError(f"{place}: networks: {error}") from None
    for key in (argument, "recipe"):
        if key in arch:
            raise LMBError(f"{place}: networks: arch: the key {key!r} is not allowed: the suite fills it in.")
    full = {**arch, argument: upscale}
    plain = None if recipe is None else {**recipe.to_dict(), "metadata": {"name": "method"}}
    if kind in _OWN_RECIPE:
        return {**full, "recipe": plain}
    return {"type": "LMBBinarized", "recipe": plain, "arch": full}


def _minor(full: str) -> str:
    found = re.match(r"\d+\.\d+", full)
    return found.group() if found else full


def content_hash(content: Any) -> str:
    """16 hexadecimal digits that depend on plain data and nothing else."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
