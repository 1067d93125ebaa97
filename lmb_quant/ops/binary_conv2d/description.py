# SPDX-License-Identifier: Apache-2.0
"""A layer as the engine's C interface takes it."""

from __future__ import annotations

import ctypes

from torch import Tensor

from .spec import ENGINE_INTEGERS, TENSORS, LayerArguments


class LayerDescription(ctypes.Structure):
    """``lmbq_layer_desc``, field by field."""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ENGINE_INTEGERS),
        ("weight_bytes", ctypes.c_uint64),
        *((tensor.member, ctypes.c_void_p) for tensor in TENSORS.values()),
    ]


def described(arguments: LayerArguments, in_channels: int) -> tuple[LayerDescription, list[Tensor | None]]:
    """A layer as the engine takes it, and the tensors that it points to: they must be held as long as it is used."""
    weight = arguments.weight_packed.contiguous()
    tensors = [weight, *(None if t is None else t.float().contiguous() for t in arguments.tensors[1:])]
    given = zip(TENSORS.values(), tensors, strict=True)
    description = LayerDescription(
        struct_size=ctypes.sizeof(LayerDescription),
        weight_bytes=weight.numel(),
        **{name: of(arguments, in_channels) for name, of in ENGINE_INTEGERS.items()},
        **{tensor.member: None if value is None else value.data_ptr() for tensor, value in given},
    )
    return description, tensors
