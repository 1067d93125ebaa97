# SPDX-License-Identifier: Apache-2.0
"""The convolutions of a network: what each is, and which tensor becomes its activations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.structure import Structure, find_structure, inside_binary

KEPT_FLOAT = ("@first", "@last", "@upsample", "@pointwise")
"""What the recipe ``lmb`` leaves float."""

_ROLES = (*KEPT_FLOAT, "@grouped", "@strided")


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution.

    ``kind`` is ``float``, ``binary`` (training form) or ``packed``; ``roles`` are a recipe's tokens, without ``@``.
    """

    name: str
    module: nn.Module
    kind: str
    roles: tuple[str, ...]

    @property
    def is_body(self) -> bool:
        """Whether it is binary, or would be by the recipe ``lmb``."""
        return self.kind != "float" or not any(f"@{role}" in KEPT_FLOAT for role in self.roles)

    @property
    def tap(self) -> nn.Module:
        """The module whose input is what is, or would be, binarised."""
        return self.module.binarize_input if isinstance(self.module, BinaryConv2d) else self.module


def find_layers(network: nn.Module, label: str, input_size: tuple[int, ...]) -> tuple[list[Layer], Structure]:
    """Lists a network's convolutions in the order of their registration.

    Args:
        network: Any module.
        label: What messages call it.
        input_size: Size of an input that it takes.

    Raises:
        LMBError: If it has no convolution.
    """
    inner = inside_binary(network)
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, PackedBinaryConv2d)) and module not in inner
    ]
    if not found:
        raise LMBError(f"{label}: it has no convolution (Conv2d). Allowed: networks with one or more.")
    structure = find_structure(network, input_size)
    return [_layer(name, module, structure) for name, module in found], structure


def _layer(name: str, module: nn.Module, structure: Structure) -> Layer:
    if isinstance(module, PackedBinaryConv2d):
        return Layer(name, module, "packed", ())
    kind = "binary" if isinstance(module, BinaryConv2d) else "float"
    return Layer(name, module, kind, tuple(role[1:] for role in _ROLES if structure.has(role, name, module)))
