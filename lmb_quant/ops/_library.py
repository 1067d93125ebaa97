# SPDX-License-Identifier: Apache-2.0
"""The compiled engine (csrc/include/lmb_quant_kernels.h), if it is there and wanted."""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import cache
from pathlib import Path

from lmb_quant.c_library import shared_libraries
from lmb_quant.errors import LMBError, unknown_name

ABI_VERSION = 7
MODES = ("on", "off", "require")
_Pointer, _Long = ctypes.c_void_p, ctypes.c_int64


class Library:
    """The loaded engine; :meth:`check` turns its error codes into exceptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.c = c = ctypes.CDLL(str(path))
        if c.lmbq_abi_version() != ABI_VERSION:
            raise OSError(f"its interface has version {c.lmbq_abi_version()}, not {ABI_VERSION}; install again")
        for name in ("lmbq_last_error", "lmbq_isa_name", "lmbq_layer_kernel"):
            getattr(c, name).restype = ctypes.c_char_p
        c.lmbq_layer_create.argtypes = [_Pointer, _Pointer]
        c.lmbq_layer_kernel.argtypes = [_Pointer]
        c.lmbq_layer_destroy.argtypes = [_Pointer]
        c.lmbq_layer_destroy.restype = None
        c.lmbq_upscale_with_detail.argtypes = [
            *[_Pointer] * 3,
            *[_Long] * 4,
            ctypes.c_int,
            ctypes.c_float,
            ctypes.c_int,
        ]
        c.lmbq_layer_run.argtypes = [*[_Pointer] * 4, *[_Long] * 3, ctypes.c_int]
        c.lmbq_layer_output_size.argtypes = [_Pointer, _Long, _Long, _Pointer, _Pointer]
        c.lmbq_layer_run_bits.argtypes = [*[_Pointer] * 6, *[_Long] * 3, ctypes.c_int]
        c.lmbq_layer_has_gradients.argtypes = [_Pointer]
        c.lmbq_layer_backward.argtypes = [_Pointer, _Pointer, *[_Long] * 3, ctypes.c_int]
        c.lmbq_network_create.argtypes = [_Pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int, _Pointer]
        c.lmbq_network_close.argtypes = [_Pointer]
        c.lmbq_network_close.restype = None
        c.lmbq_network_query.argtypes = [_Pointer, _Pointer]
        c.lmbq_network_run.argtypes = [
            *(_Pointer, _Pointer, ctypes.c_int, _Pointer, ctypes.c_int, _Long, _Long, _Long),
            *(ctypes.c_int, _Pointer),
        ]
        c.lmbq_network_profile.argtypes = [
            *(_Pointer, _Pointer, ctypes.c_int, _Pointer, ctypes.c_int, _Long, _Long),
            *(ctypes.c_int, _Pointer, ctypes.c_int, _Pointer),
        ]
        c.lmbq_network_run_bytes.argtypes = [
            *(_Pointer, _Pointer, _Long, _Pointer, _Long, _Long, _Long),
            *(ctypes.c_int, _Pointer),
        ]
        c.lmbq_pack_signs.argtypes = [_Pointer, *[_Long] * 6, _Pointer]

    def check(self, status: int, where: str) -> None:
        """Raises for a status other than 0.

        Raises:
            LMBError: With the engine's message.
        """
        if status:
            raise LMBError(f"{where}: {self.c.lmbq_last_error().decode()}.")

    def selected_isa(self) -> str:
        """The instruction set in use: ``amx``, ``avx512``, ``avx2``, ``neon`` or ``portable``.

        Raises:
            LMBError: If ``LMB_QUANT_ISA`` names one that is unknown or not on this machine.
        """
        number = ctypes.c_int()
        self.check(self.c.lmbq_isa_selected(ctypes.byref(number)), "engine")
        return str(self.c.lmbq_isa_name(number.value).decode())


@cache
def find() -> tuple[Library | None, str]:
    """Loads the engine once. Returns it and ``""``, or None and the reason.

    Raises:
        LMBError: If ``LMB_QUANT_KERNELS`` is none of on, off and require, or requires what is not there.
    """
    mode = os.environ.get("LMB_QUANT_KERNELS") or "on"
    if mode not in MODES:
        raise LMBError(unknown_name("LMB_QUANT_KERNELS", mode, MODES))
    if mode == "off":
        return None, "LMB_QUANT_KERNELS=off"
    reason = "the compiled engine is not installed; install again with a C++ compiler (GCC or Clang)"
    for path in filter(Path.is_file, shared_libraries()):
        try:
            return Library(path), ""
        except (OSError, AttributeError) as error:
            reason = f"{path} cannot be loaded: {error}"
    if mode == "require":
        raise LMBError(f"LMB_QUANT_KERNELS=require: {reason}.")
    warnings.warn(f"packed layers run by the PyTorch reference, which is slow: {reason}.", stacklevel=2)
    return None, reason


def active_kernel() -> str:
    """What runs packed layers on the CPU here, in words.

    Raises:
        LMBError: As :func:`find`, and for an ``LMB_QUANT_ISA`` that cannot run here.
    """
    library, reason = find()
    return f"engine, {library.selected_isa()}" if library else f"PyTorch reference ({reason})"
