# SPDX-License-Identifier: Apache-2.0
"""Host quantisers as methods: what PyTorch, torchao or this project's engine makes of a trained network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmb_quant.bench.suite.plan.schemes import BF16, ENGINE_INT8, WEIGHT_BITS, HostSettings
from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d, multiplies_int8
from lmb_quant.packed_file import INT8_CHANNELS
from lmb_quant.packing import convert
from lmb_quant.stages import forward, require_int8
from lmb_quant.structure import find_structure

from .file_size import packed_size, plain_size


class UnsupportedError(LMBError):
    """A host cannot run a scheme on the network; the message is the host's reason."""


@dataclass(frozen=True)
class HostForm:
    """A host's form of a network.

    ``network`` reads and writes float32 RGB images ``(N, 3, H, W)`` of any size, on the CPU; ``to_compile`` is what
    ``torch.compile`` gets. ``bytes`` is the size of a file of all that it needs. ``bits`` is how many a weight has in
    the real layers that were quantised, by the network's names; of these ``int8_layers`` compute in int8, the others in
    floating point. ``note`` says what a reader of its bytes must know.
    """

    network: nn.Module
    to_compile: nn.Module
    bytes: int
    bits: dict[str, int]
    int8_layers: frozenset[str] = frozenset()
    note: str = ""


def host_form(settings: HostSettings, network: nn.Module, images: Callable[[], Sequence[Tensor]]) -> HostForm:
    """Makes a host's form of a trained network.

    Args:
        settings: Which.
        network: On the CPU in eval mode, a float network; for ``int8-qat`` the one that trained with rounding, for
            ``engine-int8`` a float or a binary one.
        images: Gives the calibration patches, float32 ``(1, 3, H, W)``.

    Raises:
        UnsupportedError: If the host cannot run the scheme on this network.
        LMBError: If torchao is not installed.
    """
    if settings.scheme == BF16:
        return _bf16(network)
    if settings.scheme == ENGINE_INT8:
        return _engine_int8(network)
    from lmb_quant.integrations import torchao  # heavy and optional

    try:
        if settings.scheme in WEIGHT_BITS:
            return _weights(network, settings.scheme, images()[0])
        return _int8(network, settings, images)
    except torchao.UnsupportedSchemeError as error:
        raise UnsupportedError(str(error)) from error


class _Bfloat16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.network(image.bfloat16())
        return output.float()


def _bf16(network: nn.Module) -> HostForm:
    half = copy.deepcopy(network).bfloat16()
    layers = {name: 16 for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return HostForm(_Bfloat16(half).eval(), _Bfloat16(half).eval(), plain_size(half.state_dict()), layers)


def _weights(network: nn.Module, scheme: str, image: Tensor) -> HostForm:
    from lmb_quant.integrations.torchao.weight_only import quantised_weights, stored_tensors

    quantised, bits = quantised_weights(network, scheme, image), WEIGHT_BITS[scheme]
    layers = {name: bits for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    note = "" if bits == 8 else f"torchao stores each {bits}-bit value in a byte"
    return HostForm(quantised, quantised, plain_size(stored_tensors(quantised)), layers, note=note)


def _int8(network: nn.Module, settings: HostSettings, images: Callable[[], Sequence[Tensor]]) -> HostForm:
    from lmb_quant.integrations.torchao.int8 import Int8Training, static_int8

    if isinstance(network, Int8Training):
        quantised = network.converted()
    else:
        ends: frozenset[str] = frozenset()
        if settings.scheme == "int8-pt2e-ends-float":
            structure = find_structure(network)
            ends = structure.first | structure.last
        quantised = static_int8(network, images(), float_layers=ends, bits=settings.activation_bits)
    layers = frozenset(quantised.int8_layers())
    bits = dict.fromkeys(layers, 8)
    return HostForm(quantised, quantised.graph, plain_size(quantised.tensors()), bits, layers)


class _InOneCall(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return forward(self.network, image)


def _engine_int8(network: nn.Module) -> HostForm:
    """All real weights are rounded to int8, as ``save(real_weights="int8")`` does; pointwise ones multiply in it."""
    is_binary = any(isinstance(module, BinaryConv2d) for module in network.modules())
    try:
        own = convert(network) if is_binary else copy.deepcopy(network)
        tensors = own.state_dict()
        convs = {name: module for name, module in own.named_modules() if isinstance(module, nn.Conv2d)}
        for name, conv in convs.items():
            parts, words = INT8_CHANNELS.split(tensors.pop(f"{name}.weight"))
            tensors |= {f"{name}.weight.{part}": value for part, value in parts.items()}
            with torch.no_grad():
                conv.weight.copy_(INT8_CHANNELS.join(parts, words))
        require_int8(own)
        size = packed_size(own, "int8") if is_binary else plain_size(tensors)
    except LMBError as error:
        raise UnsupportedError(str(error)) from error
    int8 = frozenset(name for name, conv in convs.items() if multiplies_int8(conv))
    whole = _InOneCall(own).eval()
    return HostForm(whole, whole, size, dict.fromkeys(convs, 8), int8)
