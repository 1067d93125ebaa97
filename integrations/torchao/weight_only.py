# SPDX-License-Identifier: Apache-2.0
"""torchao's schemes that ``quantize_`` applies to a network's convolutions, with a check that they did something."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ._host import (
    AOBaseConfig,
    Int4WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    IntxWeightOnlyConfig,
    PerAxis,
    UnsupportedSchemeError,
    quantize_,
)
from .codec import IntxCodec
from .trial import check_changed


def _intx(bits: int) -> AOBaseConfig:
    return IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerAxis(0))


CONFIGS: dict[str, Callable[[], AOBaseConfig]] = {
    "int8-weight": partial(_intx, 8),
    "int4-weight": partial(_intx, 4),
    "int2-weight": partial(_intx, 2),
    "int1-weight": partial(_intx, 1),
    "int4-packed": Int4WeightOnlyConfig,
    "int8-dynamic": Int8DynamicActivationInt8WeightConfig,
}
"""Schemes by this project's names: IntxWeightOnly in four widths, and two that torchao has for linear layers."""


def quantised_weights(network: nn.Module, scheme: str, image: Tensor) -> nn.Module:
    """Applies a scheme to every convolution and tries the result.

    Args:
        network: The float network in eval mode; it is not changed.
        scheme: A name in :data:`CONFIGS`.
        image: Float32 ``(1, 3, H, W)``, for the trial.

    Raises:
        UnsupportedSchemeError: If torchao refuses it, the result does not run, no weight or not every weight was
            changed, or a weight became all zeros.
    """
    network = copy.deepcopy(network)
    convolutions = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    before: dict[str, Tensor] = {f"{name}.weight": module.weight for name, module in convolutions}
    try:
        quantize_(network, CONFIGS[scheme](), filter_fn=lambda module, _: isinstance(module, nn.Conv2d))
        check_changed(before, network)
        with torch.no_grad():
            network(image)
    except UnsupportedSchemeError:
        raise
    except Exception as error:  # torchao fails in many ways, and each is the answer that is asked for
        raise UnsupportedSchemeError.of(error) from error
    return network


def stored_tensors(network: nn.Module) -> dict[str, Tensor]:
    """All that a file of such a network must hold; weights as torchao stores them, a byte for each value."""
    codec = IntxCodec()
    stored: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        parts = codec.split(value)[0] if codec.stores(value.detach()) else {"": value}
        stored |= {f"{name}.{part}".rstrip("."): part_of.detach().contiguous() for part, part_of in parts.items()}
    return stored
