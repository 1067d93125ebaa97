# SPDX-License-Identifier: Apache-2.0
"""How a tensor that is no plain one is stored: as plain tensors, and words that say how to put them together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar

import torch
from torch import Tensor

from lmb_quant.errors import LMBError

from .header import Encoded

GROUP = "lmb_quant.tensor_codecs"
"""Entry points of this group, named as the package whose tensors they store, are modules that register codecs."""


@dataclass(frozen=True)
class Part:
    """A plain tensor that a stored one is made of: its shape, and the dtypes that are allowed."""

    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]


class TensorCodec(ABC):
    """Stores the tensors of one class. ``name`` is the package that has the class, a dot, and a word.

    A file comes from anywhere: :meth:`parts` sees its words before a tensor is read, :meth:`join` the tensors that
    fit what :meth:`parts` said, and neither trusts them.
    """

    name: ClassVar[str]

    @abstractmethod
    def stores(self, tensor: Tensor) -> bool:
        """Whether a tensor is of the class that this codec stores."""

    @abstractmethod
    def split(self, tensor: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The plain tensors of a tensor by part, and words that JSON holds."""

    @abstractmethod
    def parts(self, words: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Part]:
        """The parts that make a tensor of a shape.

        Raises:
            LMBError: If the words are not allowed, or not with this shape.
        """

    @abstractmethod
    def join(self, parts: Mapping[str, Tensor], words: Mapping[str, Any]) -> Tensor:
        """The tensor that :meth:`split` was given.

        Raises:
            LMBError: If the values are not allowed.
        """


_codecs: dict[str, TensorCodec] = {}


def register_codec(codec: TensorCodec) -> None:
    """Makes a codec known to ``save`` and ``load``.

    Raises:
        LMBError: If its name is taken.
    """
    if codec.name in _codecs:
        raise LMBError(f"codec name {codec.name!r} is already taken by {type(_codecs[codec.name]).__qualname__}.")
    _codecs[codec.name] = codec


def codec_for(tensor: Tensor) -> TensorCodec:
    """The codec that stores a tensor.

    Raises:
        LMBError: If none does.
    """
    _load_codecs_of(type(tensor).__module__.partition(".")[0])
    for codec in _codecs.values():
        if codec.stores(tensor):
            return codec
    raise LMBError(f"{type(tensor).__module__}.{type(tensor).__qualname__} cannot be stored. Allowed: {_known()}.")


def codec_named(name: str) -> TensorCodec:
    """The codec that a file names.

    Raises:
        LMBError: If there is none, or its package is not installed; says what to install.
    """
    if name not in _codecs:
        _load_codecs_of(name.partition(".")[0])
    if name not in _codecs:
        raise LMBError(
            f"codec {name!r} is not known here. Allowed: {_known()}; another one is known once its module is imported."
        )
    return _codecs[name]


def decoded(tensors: Mapping[str, Tensor], encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
    """The state dict: encoded tensors put together, in the place of their parts.

    Args:
        tensors: As a file holds them.
        encoded: What its header says of those in parts, which are there, with the shapes that their codecs ask for.

    Raises:
        LMBError: If a codec does not allow their values.
    """
    state = dict(tensors)
    for name, entry in encoded.items():
        prefix = f"{name}."
        parts = {key.removeprefix(prefix): state.pop(key) for key in tensors if key.startswith(prefix)}
        try:
            state[name] = codec_named(entry.codec).join(parts, entry.words)
        except LMBError as error:
            raise LMBError(f"tensor {name!r}: {error}") from None
    return state


def _load_codecs_of(package: str) -> None:
    for entry in entry_points(group=GROUP, name=package):
        entry.load()


def _known() -> str:
    return ", ".join(["plain tensors", *sorted(_codecs)])
