# SPDX-License-Identifier: Apache-2.0
"""The architectures that a file may name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lmb_quant.archs import ARCHITECTURES
from lmb_quant.errors import LMBError, UnknownArchitectureError, unknown_name

from .header import Arch

_MAX_COUNT = 1 << 16


class _Undrawn(TorchFunctionMode):
    """Leaves random weights undrawn: on the meta device torch loads its whole compiler to draw none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.Tensor.normal_:
            return args[0]
        return given["tensor"] if func is nn.init.normal_ else func(*args, **given)


def build(arch: Arch | None, layers: int) -> nn.Module:
    """The float network that a file names, without memory for its tensors.

    Args:
        arch: What the header says.
        layers: How many packed layers the file has; a network has no more blocks.

    Raises:
        UnknownArchitectureError: If there is none.
        LMBError: If an argument is not allowed.
    """
    if arch is None:
        raise UnknownArchitectureError(
            "it names no architecture of lmb_quant.archs. Give the network: load(path, model=...)."
        )
    if arch.type not in ARCHITECTURES:
        raise LMBError(unknown_name("arch", arch.type, ARCHITECTURES))
    known = ARCHITECTURES[arch.type]
    for key, value in arch.args.items():
        high = layers + 1 if key == known.count else _MAX_COUNT
        plain = isinstance(value, (int, float)) and abs(value) <= high
        if key == "recipe" or not (plain or (key in known.words and isinstance(value, str))):
            raise LMBError(f"arch: {key}: {value!r} is not allowed. Allowed: numbers up to {high}.")
    try:
        with torch.device("meta"), _Undrawn():
            return known.make(**arch.args, recipe=None)
    except (LMBError, TypeError) as error:
        raise LMBError(f"arch: {error}") from None
