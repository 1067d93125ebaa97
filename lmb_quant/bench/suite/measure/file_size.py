# SPDX-License-Identifier: Apache-2.0
"""How many bytes a network's file has."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from lmb_quant.serialize import RealWeights
from lmb_quant.serialize import save as save_packed


def plain_size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of a safetensors file of these tensors."""
    return len(save({name: value.contiguous().clone() for name, value in tensors.items()}))


def packed_size(network: nn.Module, real_weights: RealWeights = "float32") -> int:
    """Bytes of a packed network's file.

    Raises:
        LMBError: If it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="lmb-quant-") as folder:
        path = Path(folder) / "network.safetensors"
        save_packed(network, path, real_weights=real_weights)
        return path.stat().st_size
