# SPDX-License-Identifier: Apache-2.0
"""A packed layer put back into its training form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops.binary_conv2d.reference import unpack_bits
from lmb_quant.ops.binary_conv2d.spec import TENSORS, packed_act

from .conv import BinaryConv2d
from .packed import PackedBinaryConv2d

_LEAST = 1e-12  # a latent weight of 0 has no sign


@torch.no_grad()
def unpack_into(conv: BinaryConv2d, layer: PackedBinaryConv2d) -> None:
    """Gives a training form the values of a packed layer, so that packing it gives this layer again.

    The latent weights are lost: each becomes its sign times the scale of its channel.

    Args:
        conv: The training form; its values are replaced.
        layer: The packed layer.

    Raises:
        LMBError: If a norm is folded into the layer, or packing ``conv`` does not give it again; ``conv`` may be
            changed then.
    """
    if not isinstance(conv.norm, nn.Identity):
        raise LMBError(
            f"its norm, {conv.config.norm!r}, is folded into scale and bias. Allowed: layers without a norm."
        )
    inputs = layer.config.in_channels // layer.config.groups
    signs = 2.0 * unpack_bits(layer.weight_packed, inputs, layer.config.kernel_size) - 1
    if signs.shape != conv.weight.shape:
        raise LMBError(f"weight: shape {tuple(signs.shape)} is not allowed. Allowed: {tuple(conv.weight.shape)}.")
    values = layer.arguments()
    conv.weight.copy_(signs * values.weight_scale.abs().clamp(min=_LEAST).view(-1, 1, 1, 1))
    comparison = conv.binarize_input.comparison()
    threshold = None if comparison is None else comparison.threshold
    _copy(conv.bias, values.bias)
    _copy(getattr(threshold, "shift", None), values.shift)
    _copy(getattr(threshold, "gain", None), values.gain)
    for name, parameter in packed_act(conv.act)[1].items():
        _copy(parameter, getattr(values, name))
    if conv.rescale is not None and values.pixel_factor is not None:
        conv.rescale.set_packed_factor(values.pixel_factor)
    again = PackedBinaryConv2d.from_binary(conv)
    for name in TENSORS:
        if not _close(getattr(again.arguments(), name), getattr(values, name)):
            raise LMBError(f"{name}: its training form cannot be made again.")
    if again.config != layer.config:
        raise LMBError("it is not packed from this training form.")


def _copy(parameter: Tensor | None, value: Tensor | None) -> None:
    """Where a value has no parameter, or differs in shape, the comparison afterwards finds it."""
    if isinstance(parameter, nn.Parameter) and value is not None and parameter.shape == value.shape:
        parameter.copy_(value)


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.dtype == torch.uint8:
        return torch.equal(one, other)
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, atol=1e-7)
