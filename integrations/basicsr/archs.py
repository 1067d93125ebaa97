# SPDX-License-Identifier: Apache-2.0
"""The architectures that BasicSR's option files can name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

import lmb_quant
from lmb_quant import archs
from lmb_quant.errors import LMBError, unknown_name

from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY


def LMBBinarized(  # noqa: N802 - the name in option files, where classes stand
    arch: Mapping[str, Any], recipe: Any = "lmb", input_size: list[int] | None = None
) -> nn.Module:
    """Builds a registered architecture and binarises it; the state dict keeps the architecture's own keys.

    Args:
        arch: What ``network_g`` would be: ``type`` and the architecture's arguments.
        recipe: What :func:`lmb_quant.binarize` takes; None leaves the network float.
        input_size: As in :func:`lmb_quant.plan`, for networks whose input has an unusual size.

    Raises:
        LMBError: If there is no such architecture, or the recipe does not fit it.

    Example:
        .. code-block:: yaml

            network_g:
              type: LMBBinarized
              recipe: lmb
              arch: {type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_feat: 64, num_block: 16, upscale: 4}
    """
    net = build_inner(arch)
    if recipe is None:
        return net
    return lmb_quant.binarize(net, recipe, input_size=None if input_size is None else tuple(input_size))


def registered(registry: Any, name: str) -> Any:
    """What a BasicSR registry holds under a name, or None. The registry's own ``get`` prints and raises KeyError."""
    table = dict(iter(registry))
    return table.get(name, table.get(f"{name}_basicsr"))


def find_architecture(name: object, place: str) -> Any:
    """The registered architecture of a name.

    Raises:
        LMBError: If there is none; begins with ``place``.
    """
    architecture = registered(ARCH_REGISTRY, str(name))
    if architecture is None:
        raise LMBError(f"{place}: {unknown_name('architecture', name, ARCH_REGISTRY.keys())}")
    return architecture


def build_inner(arch: Mapping[str, Any]) -> nn.Module:
    """Builds what stands under ``arch`` of a ``network_g`` that changes another network.

    Raises:
        LMBError: If there is no such architecture.
    """
    find_architecture(arch.get("type"), "network_g.arch")
    net: nn.Module = build_network(dict(arch))
    return net


def upscale_argument(name: object, place: str) -> str:
    """The name of the argument by which a registered architecture takes the SR factor.

    Raises:
        LMBError: If there is no such architecture, or it takes none; begins with ``place``.
    """
    parameters = inspect.signature(find_architecture(name, place)).parameters
    for argument in ("upscale", "scale"):
        if argument in parameters:
            return argument
    raise LMBError(
        f"{place}: architecture {name!r} has no argument 'upscale' or 'scale'. Its own: {', '.join(parameters)}."
    )


def register_once(registry: Any, item: Any) -> None:
    """Registers a class or function under its name; again is harmless, even after a reload of its module.

    Raises:
        LMBError: If the name belongs to something else.
    """
    name = item.__name__
    old = dict(iter(registry)).get(name)
    if old is None:
        registry.register(item)
    elif (old.__module__, old.__qualname__) != (item.__module__, item.__qualname__):
        raise LMBError(f"{name!r} is already taken in BasicSR's registry by {old.__module__}.")


ARCHITECTURES: tuple[Any, ...] = (*(known.make for known in archs.ARCHITECTURES.values()), LMBBinarized)
