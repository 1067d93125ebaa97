# SPDX-License-Identifier: Apache-2.0
"""Any architecture in torchao's int8 training, by one entry of an option file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError, unknown_name

from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY

from .archs import registered


def LMBInt8(arch: Mapping[str, Any], activation_bits: int | None = None) -> nn.Module:  # noqa: N802 - as LMBBinarized
    """Builds a registered architecture whose convolutions train with the rounding of int8 (torchao's PT2E QAT).

    Args:
        arch: What ``network_g`` would be: ``type`` and the architecture's arguments.
        activation_bits: 7 or 8; by default 8 where the CPU has VNNI instructions, else 7.

    Raises:
        LMBError: If there is no such architecture, another number of bits is asked for, torchao cannot quantise the
            network, or torchao is not installed.
    """
    if registered(ARCH_REGISTRY, str(arch.get("type"))) is None:
        raise LMBError(f"network_g.arch: {unknown_name('architecture', arch.get('type'), ARCH_REGISTRY.keys())}")
    from lmb_quant.integrations.torchao.int8 import Int8Training  # torchao is heavy and optional

    return Int8Training(build_network(dict(arch)), activation_bits)
