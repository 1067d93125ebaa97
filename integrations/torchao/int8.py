# SPDX-License-Identifier: Apache-2.0
"""torchao's PT2E int8 for images of any size: quantised after training, or trained with quantisation (QAT).

Not imported by the package: torchao's PT2E takes a second to load.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Sequence
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from lmb_quant.errors import LMBError

from .._missing import INSTALL
from ._host import MissingTorchAOError, UnsupportedSchemeError

try:
    from torchao.quantization.pt2e import disable_observer, enable_observer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
except (ImportError, AttributeError) as error:  # 0.15 asks for what the present torch no longer has
    raise MissingTorchAOError(
        f"torchao's PT2E cannot be imported: {error}. To install it: {INSTALL['torchao']}"
    ) from error

_EXAMPLE = (2, 3, 24, 20)  # sizes that differ from each other and from 1, so that none is taken for a constant
_CONVOLUTION = torch.ops.aten.conv2d.default
_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default


def activation_bits() -> int:
    """Bits of an activation on this CPU: 7 without VNNI instructions, where sums of 8-bit products overflow; else 8."""
    return 8 if torch.cpu._is_vnni_supported() else 7


class Int8Network(nn.Module):
    """What ``convert_pt2e`` made of a network; float32 RGB images ``(N, 3, H, W)`` in and out.

    ``graph`` is what ``torch.compile`` makes fast, with ``torch._inductor.config.freezing``. Run as it is, it computes
    the same in float, slowly.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph = graph
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Does nothing: an exported graph has one mode."""
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Upscales images."""
        output: Tensor = self.graph(image)
        return output

    def int8_layers(self) -> list[str]:
        """Names of the convolutions whose weights and activations are int8, as the float network names them."""
        found = []
        for node in self.graph.graph.nodes:
            if node.target == _CONVOLUTION and all("dequantize" in str(arg.target) for arg in node.args[:2]):
                name, _ = list(node.meta["nn_module_stack"].values())[-1]
                found.append(str(name))
        return found

    def tensors(self) -> dict[str, Tensor]:
        """All that a file of the network must hold: int8 weights, their scales, biases, scales of activations.

        The graph holds the float weights too, which nothing reads; they are left out. Zero points are bytes here.
        """
        stored: dict[str, Tensor] = {}
        for node in self.graph.graph.nodes:
            if node.op == "get_attr":
                stored[node.target] = _byte(fx.graph_module._get_attr(self.graph, node.target))
            elif node.target == _QUANTIZE:
                scale, zero_point = node.args[1:3]
                stored |= {
                    f"{node.name}.scale": torch.tensor(scale),
                    f"{node.name}.zero_point": _byte(torch.tensor(zero_point)),
                }
        return {name: tensor.detach().contiguous() for name, tensor in stored.items()}


class Int8Training(nn.Module):
    """A float network whose convolutions train with the rounding of int8 (QAT), weights and activations.

    The observers of activations learn in training mode only. Parameters are the float network's; all that quantisation
    adds is in the state dict.

    Args:
        network: The float network, for RGB images; its parameters are taken over.
        bits: Of activations, 7 or 8; by default :func:`activation_bits`.

    Raises:
        LMBError: If ``bits`` is not allowed.
        UnsupportedSchemeError: If torchao cannot quantise it.

    Source:
        torchao, ``prepare_qat_pt2e`` with X86InductorQuantizer: one scale an output channel, one an activation.
    """

    def __init__(self, network: nn.Module, bits: int | None = None) -> None:
        super().__init__()
        _check_bits(bits)
        self.graph = _attempt(lambda: prepare_qat_pt2e(_export(network), _quantizer((), bits, is_qat=True)))
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switches the observers; the graph has no other mode."""
        self.training = mode
        self.graph.apply(enable_observer if mode else disable_observer)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Upscales float32 images ``(N, 3, H, W)``; in float32 under autocast too, which fake quantisation asks for."""
        with torch.autocast(image.device.type, enabled=False):
            output: Tensor = self.graph(image)
        return output

    def converted(self) -> Int8Network:
        """The int8 network, a copy."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # copying an exported graph, PyTorch warns of its own code
            graph = copy.deepcopy(self.graph)
        return Int8Network(_attempt(lambda: convert_pt2e(graph)))


def static_int8(
    network: nn.Module, images: Sequence[Tensor], *, float_layers: Collection[str] = (), bits: int | None = None
) -> Int8Network:
    """Quantises a trained float network: weights by output channel, activations by ranges seen on images.

    Args:
        network: The float network in eval mode; it is not changed.
        images: Float32 ``(1, 3, H, W)``, of any sizes, whose activations set the scales.
        float_layers: Names of convolutions that stay float.
        bits: Of activations, 7 or 8; by default :func:`activation_bits`.

    Raises:
        LMBError: If ``bits`` is not allowed.
        UnsupportedSchemeError: If torchao cannot quantise it.

    Source:
        torchao, ``prepare_pt2e`` with X86InductorQuantizer: histogram observers for activations.
    """
    _check_bits(bits)

    def quantise() -> fx.GraphModule:
        prepared = prepare_pt2e(_export(network), _quantizer(float_layers, bits, is_qat=False))
        for image in images:
            prepared(image)
        return convert_pt2e(prepared)

    with torch.no_grad():
        quantised = Int8Network(_attempt(quantise))
    if not quantised.int8_layers():
        raise UnsupportedSchemeError("it leaves every convolution as it is, without a word")
    return quantised


def _check_bits(bits: int | None) -> None:
    if bits not in (None, 7, 8):
        raise LMBError(f"bits of activations: {bits!r} is not allowed. Allowed: 7, 8.")


def _export(network: nn.Module) -> Any:
    size = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attribute .* was assigned during export")  # EDSR's mean
        graph = torch.export.export(network, (torch.zeros(_EXAMPLE),), dynamic_shapes=(size,)).module()
    for node in graph.graph.nodes:  # torchao takes all uses of one activation module for one use, and gives up
        stack = node.meta.get("nn_module_stack")
        if stack and node.op == "call_function" and node.target != _CONVOLUTION:
            use, (name, kind) = list(stack.items())[-1]
            node.meta["nn_module_stack"] = {**stack, use: (f"{name}@{use.partition('@')[2]}".rstrip("@"), kind)}
    return graph


def _quantizer(float_layers: Collection[str], bits: int | None, *, is_qat: bool) -> Any:
    narrow = (bits or activation_bits()) < 8
    config = x86.get_default_x86_inductor_quantization_config(is_qat=is_qat, reduce_range=narrow)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    for name in float_layers:
        quantizer.set_module_name_qconfig(name, None)
    return quantizer


def _attempt(quantise: Any) -> Any:
    try:
        return quantise()
    except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
        raise UnsupportedSchemeError.of(error) from error


def _byte(tensor: Tensor) -> Tensor:
    """Whole numbers, which are zero points here, as int8 or uint8."""
    if tensor.is_floating_point() or tensor.dtype == torch.int8:
        return tensor
    return tensor.to(torch.int8 if int(tensor.min()) < 0 else torch.uint8)
