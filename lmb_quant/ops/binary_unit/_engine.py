# SPDX-License-Identifier: Apache-2.0
"""The engine's backward pass of a layer (``lmbq_backward``), and signs of weights to bits."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import torch
from torch import Tensor

from lmb_quant.ops._library import Library
from lmb_quant.ops.binary_conv2d import EngineLayer

ENGINE_SURROGATES = {"ste": 1, "identity": 2, "approx_sign": 3, "triangle_half": 4}
"""Surrogates that the engine computes, by its numbers; of others it is given the values (number 0)."""

_GRADIENTS = (
    "grad_conv", "grad_skip", "grad_factor_map", "grad_x", "grad_weight", "grad_bias", "grad_slope", "grad_gamma",
    "grad_zeta", "grad_shift", "grad_gain", "grad_factor",
)  # fmt: skip


class _Backward(ctypes.Structure):
    """``lmbq_backward``, field by field."""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in ("surrogate", "detach", "skip")),
        *((name, ctypes.c_void_p) for name in ("x", "bits", "grad_out", "derivative", "grad_bits", *_GRADIENTS)),
        ("finite", ctypes.c_int32),
    ]


def backward(
    layer: EngineLayer,
    x: Tensor,
    *,
    surrogate: int,
    detach: bool,
    skip: bool,
    given: Mapping[str, Tensor | None],
    out: Mapping[str, Tensor | None],
) -> bool:
    """Runs ``lmbq_layer_backward``; all tensors are dense, activations channels-last in memory.

    Args:
        layer: The layer of the forward pass.
        x: Its input, ``(N, I, H, W)``.
        surrogate: A value of :data:`ENGINE_SURROGATES`, or 0.
        detach: Whether no gradient goes through the mean.
        skip: Whether x was added to the output.
        given: What is read, by the names of ``lmbq_backward``.
        out: What is written, likewise.

    Returns:
        Whether the gradient of the convolution is finite everywhere.

    Raises:
        LMBError: If the engine refuses.
    """
    n, _, height, width = x.shape
    pointers = {name: t.data_ptr() for name, t in (*given.items(), *out.items()) if t is not None}
    call = _Backward(ctypes.sizeof(_Backward), surrogate, detach, skip, x=x.data_ptr(), **pointers)
    status = layer.library.c.lmbq_layer_backward(
        layer.handle, ctypes.byref(call), n, height, width, torch.get_num_threads()
    )
    layer.library.check(status, "binary layer, backward")
    return bool(call.finite)


def pack_signs(library: Library, signs: Tensor) -> Tensor:
    """Packs float32 ``(O, I, Kh, Kw)`` of -1 and +1, in any memory format, as ``docs/bit_layout.md`` has weights.

    Raises:
        LMBError: If the engine refuses.
    """
    if not (signs.is_contiguous() or signs.is_contiguous(memory_format=torch.channels_last)):
        signs = signs.contiguous()
    outputs, inputs, height, width = signs.shape
    if signs.is_contiguous():
        strides = (inputs * height * width, height * width, 1)
    else:
        strides = (inputs * height * width, 1, inputs)
    packed = signs.new_empty(outputs, height * width * -(-inputs // 8), dtype=torch.uint8)
    status = library.c.lmbq_pack_signs(signs.data_ptr(), outputs, inputs, height * width, *strides, packed.data_ptr())
    library.check(status, "binary layer, weights")
    return packed
