# SPDX-License-Identifier: Apache-2.0
"""Which networks come with the package, and where their files are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from lmb_quant.errors import LMBError, unknown_name

DEFAULT = "lmb_large_x4"
"""The network that is used where none is named."""

_NETWORK, _CARD = ".safetensors", ".md"


def network_names() -> tuple[str, ...]:
    """The names of all networks, sorted."""
    found = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(_NETWORK) for name in found if name.endswith(_NETWORK)))


@contextmanager
def network_file(name: str) -> Iterator[Path]:
    """Yields the packed file of a network, for as long as the context is open.

    Raises:
        LMBError: If there is no network of that name; the message names the nearest one.
    """
    _check(name)
    with as_file(files(__package__) / f"{name}{_NETWORK}") as path:
        yield path


def card_text(name: str) -> str:
    """The model card of a network, Markdown with its data as YAML at the head.

    Raises:
        LMBError: If there is no network of that name; the message names the nearest one.
    """
    _check(name)
    return (files(__package__) / f"{name}{_CARD}").read_text(encoding="utf-8")


def _check(name: str) -> None:
    if name not in network_names():
        raise LMBError(unknown_name("network", name, network_names()))
