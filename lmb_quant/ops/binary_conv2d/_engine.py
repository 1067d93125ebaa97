# SPDX-License-Identifier: Apache-2.0
"""Layers of the engine: built from packed tensors at their first use, kept as long as those."""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lmb_quant.ops._library import Library

from .description import described
from .spec import LayerArguments


class EngineLayer:
    """One layer in the engine's run-time layout; it holds copies of all it was made from."""

    def __init__(self, library: Library, arguments: LayerArguments, in_channels: int) -> None:
        description, _kept = described(arguments, in_channels)
        self.library, self.handle, self.out_channels = library, ctypes.c_void_p(), len(arguments.weight_packed)
        self.is_forgotten = False
        status = library.c.lmbq_layer_create(ctypes.byref(description), ctypes.byref(self.handle))
        library.check(status, "packed layer")
        self.kernel = str(library.c.lmbq_layer_kernel(self.handle).decode())
        self._destroy = weakref.finalize(self, library.c.lmbq_layer_destroy, self.handle)

    def run(self, x: Tensor, out: Tensor, skip: bool) -> None:
        """Computes ``out`` from ``x``, both dense float32 NHWC in memory."""
        n, _, height, width = x.shape
        pointer = x.data_ptr()
        status = self.library.c.lmbq_layer_run(
            self.handle, pointer, pointer if skip else None, out.data_ptr(), n, height, width, torch.get_num_threads()
        )
        self.library.check(status, "packed layer")

    @property
    def has_gradients(self) -> bool:
        """Whether the engine has the gradient convolutions of this layer."""
        return bool(self.library.c.lmbq_layer_has_gradients(self.handle))

    def run_anew(self, x: Tensor, skip: bool) -> Tensor:
        """As :meth:`run`, with memory of its own for the output, ``(N, O, H', W')``, channels-last."""
        return self._run_bits(x, None, None, skip)

    def run_keeping_bits(self, x: Tensor, skip: bool) -> tuple[Tensor, Tensor]:
        """Computes the output of ``(N, C, H, W)``, dense float32 NHWC in memory, and keeps the bits.

        Returns:
            The output, channels-last, and uint8 ``(N, H, W, ceil(C / 64) * 8)``, bits as in ``docs/bit_layout.md``.
        """
        n, channels, height, width = x.shape
        bits = x.new_zeros(n, height, width, -(-channels // 64) * 8, dtype=torch.uint8)
        return self._run_bits(x, None, bits, skip), bits

    def run_bits(self, x: Tensor, bits: Tensor, skip: bool) -> Tensor:
        """The output once more, from the bits that were kept; x is the same as then."""
        return self._run_bits(x, bits, None, skip)

    def _run_bits(self, x: Tensor, given: Tensor | None, kept: Tensor | None, skip: bool) -> Tensor:
        n, _, height, width = x.shape
        out_height, out_width = ctypes.c_int64(), ctypes.c_int64()
        status = self.library.c.lmbq_layer_output_size(
            self.handle, height, width, ctypes.byref(out_height), ctypes.byref(out_width)
        )
        self.library.check(status, "binary layer")
        size = (n, self.out_channels, out_height.value, out_width.value)
        out = torch.empty(size, dtype=torch.float32, device="cpu", memory_format=torch.channels_last)
        pointers = (None if t is None else t.data_ptr() for t in (x, given, kept, x if skip else None, out))
        status = self.library.c.lmbq_layer_run_bits(self.handle, *pointers, n, height, width, torch.get_num_threads())
        self.library.check(status, "binary layer")
        return out


class _Entry(NamedTuple):
    tensors: tuple[weakref.ref[Tensor] | None, ...]
    versions: tuple[int, ...]
    scalars: tuple[Any, ...]
    layer: EngineLayer


_layers = WeakTensorKeyDictionary()
_lock = threading.Lock()


def _versions(tensors: tuple[Tensor | None, ...]) -> tuple[int, ...]:
    # a tensor made in inference mode has no version; it is written to by load_state_dict only, which calls forget()
    return tuple(0 if t is None or t.is_inference() else t._version for t in tensors)


def layer_of(library: Library, arguments: LayerArguments, in_channels: int) -> EngineLayer:
    """The engine's layer for these tensors; made again when one of them was replaced or written to.

    Raises:
        LMBError: If the engine refuses it.
    """
    key, tensors, scalars = arguments.weight_packed, arguments.tensors, (in_channels, *arguments.scalars)
    versions = _versions(tensors)
    with _lock:
        entry: _Entry | None = _layers.get(key)
    if entry is not None and entry.versions == versions and entry.scalars == scalars:
        pairs = zip(entry.tensors, tensors, strict=True)
        if all(t is None if ref is None else ref() is t for ref, t in pairs):
            return entry.layer
    layer = EngineLayer(library, arguments, in_channels)
    refs = tuple(None if t is None else weakref.ref(t) for t in tensors)
    with _lock:
        _layers[key] = _Entry(refs, versions, scalars, layer)
    return layer


def forget(weight_packed: Tensor) -> None:
    """Drops the engine's layer of a packed weight."""
    with _lock:
        entry = _layers.pop(weight_packed, None)
    if entry is not None:
        entry.layer.is_forgotten = True  # for those who kept it
