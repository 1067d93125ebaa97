# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a call: of a network that is read from a file and run once, in a process of its own."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lmb_quant.ops._library import find
from lmb_quant.packing import for_inference
from lmb_quant.serialize import load
from lmb_quant.stages import forward

from .child import in_child
from .networks import empty_network, make_image

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def can_measure() -> bool:
    """Whether the system tells a process's peak and starts it anew; Linux does."""
    return _STATUS.exists() and _CLEAR.exists() and "VmHWM" in _STATUS.read_text(encoding="ascii")


def peak_of_float(path: Path, arch: str, arguments: dict[str, Any], size: tuple[int, int], threads: int) -> int:
    """Bytes at the peak of reading a float network from safetensors and upscaling one image, above those before."""
    return in_child(_float_peak, path, arch, arguments, size, threads)


def peak_of_packed(path: Path, size: tuple[int, int], threads: int) -> int:
    """The same for a file of :func:`lmb_quant.save`."""
    return in_child(_packed_peak, path, size, threads)


def _float_peak(path: Path, arch: str, arguments: dict[str, Any], size: tuple[int, int], threads: int) -> int:
    def read() -> nn.Module:
        model = empty_network(arch, arguments)
        model.load_state_dict(load_file(path), assign=True)
        return for_inference(model)

    return _peak(read, size, threads)


def _packed_peak(path: Path, size: tuple[int, int], threads: int) -> int:
    return _peak(lambda: load(path), size, threads, forward)


@torch.inference_mode()
def _peak(
    read: Callable[[], nn.Module],
    size: tuple[int, int],
    threads: int,
    run: Callable[[nn.Module, Tensor], Tensor] = lambda model, image: model(image),
) -> int:
    torch.set_num_threads(threads)
    run(read(), make_image(16, 16))  # loads all code
    image = make_image(*size)
    return peak_of_call(lambda: run(read(), image))


def peak_of_call(call: Callable[[], object]) -> int:
    """Bytes at the peak of a call in this process, above those before it; memory that was free counts where used."""
    gc.collect()
    library = find()[0]
    if library is not None:
        library.c.lmbq_workspace_trim()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc; else freed memory may hide new use of it
    if trim is not None:
        trim(0)
    before = _bytes("VmRSS")
    _CLEAR.write_text("5", encoding="ascii")  # the peak starts anew
    call()
    return _bytes("VmHWM") - before


def _bytes(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
