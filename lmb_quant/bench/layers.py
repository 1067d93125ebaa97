# SPDX-License-Identifier: Apache-2.0
"""One layer in all the forms that are compared: packed, fp32, bf16, int8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.modules import BinaryConv2d, LayerConfig, PackedBinaryConv2d
from lmb_quant.modules.activation import RPReLU
from lmb_quant.ops.binary_conv2d import reference, spec

from .compiled import compiled
from .measure import Competitor
from .openvino_layer import openvino_layer

PACKED_IN_PLACE, PACKED, FP32, BF16, INT8 = "packed, in place", "packed", "fp32", "bf16", "int8"
PACKED_SIGN, OPENVINO = "packed, sign", "openvino, sign"
COMPILED = ", compiled"


@dataclass(frozen=True)
class Form:
    """A form of the layer: what is timed, its first output, the definition in float64, and the SQNR it must have."""

    competitor: Competitor
    output: Tensor
    expected: Tensor
    least_sqnr: float


class FloatLayer(nn.Module):
    """Convolution, bias, RPReLU and skip with as few passes as PyTorch can: RPReLU's first shift is in the bias."""

    def __init__(self, conv: nn.Conv2d, act: RPReLU) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)
        assert self.conv.bias is not None
        self.conv.bias.data -= act.gamma.data
        self.slope, self.zeta = nn.Parameter(act.beta.detach().clone()), nn.Parameter(act.zeta.detach().view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same shape."""
        return F.prelu(self.conv(x), self.slope).add_(self.zeta).add_(x)


class Int8Layer(nn.Module):
    """The same with oneDNN's int8 convolution, unsigned activations by signed weights, as PT2E lowers it.

    Args:
        layer: The float layer.
        x: What calibrates: its least and greatest value get the first and the last level. There are 256, or 128 where
            the CPU has no VNNI, without which sums of products of 8 bits overflow.
    """

    def __init__(self, layer: FloatLayer, x: Tensor) -> None:
        super().__init__()
        weight, conv = layer.conv.weight.detach(), layer.conv
        low, high = x.aminmax()
        self.greatest = 255 if torch.cpu._is_vnni_supported() else 127
        self.alpha = float(high - low) / self.greatest
        self.zero = round(float(-low) / self.alpha)
        scale = weight.abs().amax((1, 2, 3)) / 127
        levels = (weight / scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        self.geometry = [[1, 1], list(conv.padding), [1, 1], 1]
        self.packed = torch.ops.onednn.qconv_prepack(
            levels, scale, self.alpha, self.zero, *self.geometry, list(x.shape)
        )
        self.layer, self.scale, self.zeros = layer, scale, torch.zeros(len(scale), dtype=torch.int8)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float32 ``(N, C, H, W)`` to the same: quantise, convolve, dequantise (in the convolution), the rest."""
        levels = torch.clamp(torch.round(x * (1 / self.alpha)) + self.zero, 0, self.greatest).to(torch.uint8)
        y = torch.ops.onednn.qconv2d_pointwise(
            levels, self.alpha, self.zero, self.packed, self.scale, self.zeros, self.layer.conv.bias, *self.geometry,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return F.prelu(y, self.layer.slope).add_(self.layer.zeta).add_(x)


def make_layer(channels: int, window: int | None = 3) -> BinaryConv2d:
    """Makes a 3 x 3 binary layer with a scale a channel, bias, RPReLU and skip; its parameters are random.

    Args:
        channels: Inputs and outputs.
        window: Pixels along a side of the local mean; None for the sign.
    """
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    words: dict[str, Any] = {"activation": "sign", "activation_options": {}}
    if window is not None:
        words = {"activation": "local_mean", "activation_options": {"window": window}}
    config = LayerConfig(**words, weight="sign", weight_options={}, act="rprelu", skip=True)
    layer = BinaryConv2d.from_float(conv, config).eval().requires_grad_(False)
    for parameter in layer.act.parameters():
        nn.init.uniform_(parameter, -0.25, 0.5)
    return layer


def make_input(channels: int, height: int, width: int) -> Tensor:
    """Float32 ``(1, C, H, W)``, channels-last, multiples of 1/16: sums of a window are exact, in any order."""
    x = torch.randint(-64, 65, (1, channels, height, width)) / 16
    return x.contiguous(memory_format=torch.channels_last)


def packed_forms(layer: BinaryConv2d, x: Tensor, threads: int) -> Iterator[tuple[str, Form]]:
    """Yields the packed forms, compared with the operator's definition, its values in float64."""
    packed = PackedBinaryConv2d.from_binary(layer)
    expected = _defined(packed, x)
    in_place: Callable[[Tensor], Tensor] = lambda x: packed(x, overwrite=True)  # noqa: E731
    for name, run in ((PACKED_IN_PLACE, in_place), (PACKED, packed)):
        yield name, _form(run, x, expected, threads, 100)  # a single wrong bit would show


def sign_forms(layer: BinaryConv2d, x: Tensor, threads: int) -> Iterator[tuple[str, Form]]:
    """Yields the packed layer and OpenVINO's, which has no local means: both of a layer that is binarised by sign.

    Both have memory of their own for the output. They are compared as the other packed forms are.
    """
    packed = PackedBinaryConv2d.from_binary(layer)
    expected = _defined(packed, x)
    for name, run in ((PACKED_SIGN, packed), (OPENVINO, openvino_layer(packed, x.shape[2], x.shape[3], threads))):
        yield name, _form(run, x, expected, threads, 100)


def _defined(packed: PackedBinaryConv2d, x: Tensor) -> Tensor:
    """The packed operator's definition, its values in float64."""
    a = packed.arguments()
    floats = [name for name in spec.TENSORS if name != "weight_packed"]
    doubles: Any = {name: t.double() for name in floats if (t := getattr(a, name)) is not None}
    return reference.binary_conv2d(x, a._replace(**doubles))


def float_forms(
    layer: BinaryConv2d, x: Tensor, threads: int, *, bf16: bool, with_compiled: bool
) -> Iterator[tuple[str, Form]]:
    """Yields the forms that PyTorch runs, compared with the float layer in float64."""
    assert isinstance(layer.act, RPReLU)
    conv = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)  # type: ignore[arg-type]
    conv.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    plain = FloatLayer(conv, layer.act).eval().requires_grad_(False)
    expected = copy.deepcopy(plain).double()(x.double())
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forms: Mapping[str, tuple[nn.Module, torch.dtype, float]] = {
        FP32: (plain, torch.float32, 100),
        **({BF16: (copy.deepcopy(plain).bfloat16(), torch.bfloat16, 30)} if bf16 else {}),
    }
    for name, (module, dtype, least) in forms.items():
        yield name, _form(module, x.to(dtype), expected, threads, least)
        if with_compiled:
            yield name + COMPILED, _form(compiled(module), x.to(dtype), expected, threads, least)
    if with_compiled:  # eager PyTorch has no fast way to int8 levels
        yield INT8 + COMPILED, _form(compiled(Int8Layer(plain, x)), x, expected, threads, 25)


def _form(run: Callable[[Tensor], Tensor], x: Tensor, expected: Tensor, threads: int, least_sqnr: float) -> Form:
    """The input is written anew before each run, as a network's layer before would have done."""
    values = torch.empty_like(x)
    competitor = Competitor(lambda: run(values), lambda: values.copy_(x), threads)
    competitor.prepare()
    return Form(competitor, run(values).clone(), expected, least_sqnr)
