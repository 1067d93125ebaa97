# SPDX-License-Identifier: Apache-2.0
"""What torchao's configs do to a single layer, tried on a copy before a network is trained for it."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.packed_file import codec_for
from lmb_quant.structure import copy_model

from ._host import AOBaseConfig, FqnToConfig, UnsupportedSchemeError, quantize_

_Convolution = nn.modules.conv._ConvNd
ALLOWED = "a config that torchao applies to such a layer, as IntxWeightOnlyConfig(weight_dtype=torch.int8) to a Conv2d"


def try_on_layer(layer: nn.Module, config: AOBaseConfig) -> None:
    """Applies a config to a copy of a layer, as ``quantize_`` would, and runs it.

    Values do not matter: the copy's are random, and on the CPU where the layer is on the meta device. A layer that
    holds torchao's tensors already is left out. Where the result runs but :func:`lmb_quant.save` cannot store it, a
    warning says so.

    Args:
        layer: A layer with weights; it is not changed.
        config: torchao's.

    Raises:
        UnsupportedSchemeError: If torchao refuses it, it changes nothing, makes every weight zero, or does not run.
    """
    if any(type(parameter.detach()) is not Tensor for parameter in layer.parameters()):
        return
    network = nn.Sequential(OrderedDict(layer=_filled_copy(layer)))
    before = _weights(network)
    try:
        with torch.random.fork_rng():
            quantize_(network, FqnToConfig(fqn_to_config=OrderedDict(layer=config)), filter_fn=None)
    except Exception as error:  # torchao fails in many ways
        raise UnsupportedSchemeError.of(error) from error
    check_changed(before, network)
    image = _input_of(layer)
    if image is not None:
        like = next(network.parameters())
        try:
            with torch.no_grad():
                network(image.to(like.device, like.dtype if image.is_floating_point() else image.dtype))
        except Exception as error:
            raise UnsupportedSchemeError.of(error) from error
    _tell_if_not_stored(network, config)


def check_changed(before: dict[str, Tensor], network: nn.Module) -> None:
    """Compares a network's weights with those before ``quantize_``.

    Args:
        before: The weights that must have changed, by name.
        network: The network after it.

    Raises:
        UnsupportedSchemeError: If one was left as it is, or became all zeros.
    """
    for name, old in before.items():
        parent, _, own_name = name.rpartition(".")
        new = getattr(network.get_submodule(parent), own_name, None)
        if type(new) is type(old) and torch.equal(old, new):
            raise UnsupportedSchemeError(f"it leaves the weight of {parent!r} as it is, without a word")
        values = new.dequantize() if isinstance(new, Tensor) and type(new) is not type(old) else new
        if isinstance(values, Tensor) and old.any() and not values.any():
            raise UnsupportedSchemeError(f"it makes every weight of {parent!r} zero, without a word")


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in network.named_parameters() if weight.ndim >= 2}


def _filled_copy(layer: nn.Module) -> nn.Module:
    copy = copy_model(layer)
    if any(parameter.is_meta for parameter in copy.parameters()):
        copy = copy.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in copy.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        parameter.data = values.to(parameter.device, parameter.dtype)
    for module in copy.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copy.eval()


def _input_of(layer: nn.Module) -> Tensor | None:
    """The smallest input of two samples for which the layer gives more than one value; None for unknown classes."""
    if isinstance(layer, _Convolution):
        sizes = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
        return torch.ones(2, layer.in_channels, *(d * (k - 1) + 1 + s for k, d, s in sizes))
    if isinstance(layer, nn.Linear):
        return torch.ones(2, layer.in_features)
    if isinstance(layer, nn.Embedding):
        return torch.zeros(2, dtype=torch.int64)
    return None


def _tell_if_not_stored(network: nn.Module, config: AOBaseConfig) -> None:
    try:
        for value in network.state_dict().values():
            if type(value.detach()) is not Tensor:
                codec_for(value)
    except LMBError as error:
        warnings.warn(f"{type(config).__name__}: it runs, but lmb_quant.save() cannot store it: {error}", stacklevel=5)
