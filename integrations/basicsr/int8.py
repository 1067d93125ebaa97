# SPDX-License-Identifier: Apache-2.0
"""Any architecture in torchao's int8 training, by one entry of an option file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .archs import build_inner


def LMBInt8(arch: Mapping[str, Any], activation_bits: int | None = None) -> nn.Module:  # noqa: N802 - as LMBBinarized
    """Builds a registered architecture whose convolutions train with the rounding of int8 (torchao's PT2E QAT).

    Args:
        arch: What ``network_g`` would be: ``type`` and the architecture's arguments.
        activation_bits: 7 or 8; by default 8 where the CPU has VNNI instructions, else 7.

    Raises:
        LMBError: If there is no such architecture, another number of bits is asked for, torchao cannot quantise the
            network, or torchao is not installed.
    """
    from lmb_quant.integrations.torchao.int8 import Int8Training  # torchao is heavy and optional

    return Int8Training(build_inner(arch), activation_bits)
