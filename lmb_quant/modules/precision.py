# SPDX-License-Identifier: Apache-2.0
"""In which precision a network trains on the CPU."""

from __future__ import annotations

from torch import nn

from lmb_quant.errors import LMBError
from lmb_quant.machine import cpu_flags, multiplies_bf16

from .conv import binary_convs

PRECISIONS = ("auto", "bf16", "fp32")


def check_precision(name: str) -> str:
    """Returns ``name`` if it is a precision.

    Raises:
        LMBError: If it is not.
    """
    if name not in PRECISIONS:
        raise LMBError(f"precision: {name!r} is not allowed. Allowed: {', '.join(PRECISIONS)}.")
    return name


def ends_precision(name: str) -> str:
    """What ``auto`` means for a network's float layers: ``bf16`` where the CPU multiplies it, else ``fp32``."""
    if check_precision(name) != "auto":
        return name
    return "bf16" if multiplies_bf16() else "fp32"


def set_precision(model: nn.Module, name: str = "auto") -> str:
    """Sets in which precision binary layers compute the gradients of their convolutions; the rest of them is float32.

    ``fp32`` is the engine's way, tables of sums. It was faster than AVX512-BF16 on an AMD Zen 4, and slower than AMX
    on an Intel Xeon. So ``auto`` leaves it only where the CPU has matrix units (AMX).

    Args:
        model: Any module; its binary layers are changed in place.
        name: ``auto``, ``fp32``, or ``bf16``: by oneDNN, with the incoming gradient rounded.

    Returns:
        ``fp32`` or ``bf16``.

    Raises:
        LMBError: If the name is unknown.
    """
    chosen = check_precision(name)
    if chosen == "auto":
        chosen = "bf16" if "amx_bf16" in cpu_flags() else "fp32"
    for conv in binary_convs(model):
        conv.bf16_gradients = chosen == "bf16"
    return chosen
