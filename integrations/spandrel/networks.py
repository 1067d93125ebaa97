# SPDX-License-Identifier: Apache-2.0
"""Trained networks of any architecture that spandrel knows, float and packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, reason
from lmb_quant.files import is_file
from lmb_quant.modules import PackedConfig
from lmb_quant.packed_file import decoded, from_text, join_names, packed_parts, read_configs

from ._host import MAIN_REGISTRY, ModelLoader, UnsupportedModelError
from .described import tensors_of, text_of

_UNKNOWN = "its architecture is not allowed. Allowed: those of spandrel.MAIN_REGISTRY"


def load_network(path: str | Path) -> nn.Module:
    """Loads the network of a file; its architecture and sizes are read off the tensors.

    Args:
        path: A float network's ``.pth`` or ``.safetensors`` file of any architecture that spandrel knows; or a packed
            file of :func:`lmb_quant.save`, of lmb_quant.archs or of such an architecture.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        LMBError: If the file is missing or damaged, or spandrel does not know its architecture.
    """
    path = Path(path)
    if not is_file(path):
        raise LMBError(f"{path}: there is no such file.")
    try:
        return cast(nn.Module, ModelLoader(device="cpu").load_from_file(path).model).eval()
    except UnsupportedModelError:
        raise LMBError(f"{path}: {_UNKNOWN}.") from None
    except LMBError as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # a foreign file can make spandrel's readers raise anything
        raise LMBError(f"{path}: spandrel cannot load it: {reason(error)}") from None


def float_network_of(state: Mapping[str, Tensor]) -> nn.Module:
    """One of spandrel's float networks, into which the packed layers of a state dict with a header fit.

    Raises:
        LMBError: If spandrel has none.
    """
    header = from_text(text_of(state))[0]
    configs = read_configs(header.layers)
    inside = packed_parts(configs)
    try:
        whole = decoded(tensors_of(state), header.encoded)
    except (KeyError, RuntimeError) as error:
        raise LMBError(f"encoded: the parts of a tensor do not fit: {reason(error)}") from None
    others = {name: tensor for name, tensor in whole.items() if name not in inside}
    why = _UNKNOWN
    for with_bias in (True, False):  # a norm that was folded leaves a bias where the convolution had none
        try:
            return cast(nn.Module, MAIN_REGISTRY.load(others | _convolutions(configs, with_bias)).model)
        except UnsupportedModelError:
            continue
        except Exception as error:  # whatever a constructor raises at tensors of another architecture
            why = f"{_UNKNOWN}: {reason(error)}"
    raise LMBError(f"{why}.")


def _convolutions(configs: dict[str, PackedConfig], with_bias: bool) -> dict[str, Tensor]:
    """The tensors that the packed layers' convolutions had, without values and without memory for them."""
    zero = torch.zeros(())
    tensors = {}
    for name, config in configs.items():
        shape = (config.out_channels, config.in_channels // config.groups, *config.kernel_size)
        tensors[join_names(name, "weight")] = zero.expand(shape)
        if config.bias and with_bias:
            tensors[join_names(name, "bias")] = zero.expand(config.out_channels)
    return tensors
