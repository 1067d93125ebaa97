# SPDX-License-Identifier: Apache-2.0
"""What a network's result loses when one layer's activations become bits, without any training after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.ops import Threshold

from .capture import run_network
from .images import Inputs
from .layers import Layer
from .thresholds import WAY, Means, bits_by

WAYS = ("zero", "local3", "local7", "gain3")
"""The thresholds whose effect on the result is measured."""

_IMAGES, _SIDE = 4, 32


@dataclass(frozen=True)
class Effect:
    """What the result loses.

    ``error`` is the root mean square of the change over the standard deviation of the unchanged result: 0 is none, 1 as
    if the result were its mean. ``planes`` is the same for each channel of a resulting image. ``loss`` is, for SR, the
    PSNR against the photograph that is lost, dB; for other networks the share of images whose largest value is another.
    """

    error: float
    planes: tuple[float, ...]
    loss: float


@dataclass(frozen=True, eq=False)
class Bench:
    """A network, a few images and what it makes of them."""

    network: nn.Module
    label: str
    inputs: Tensor
    original: Tensor | None
    result: Tensor

    @classmethod
    def of(cls, network: nn.Module, label: str, inputs: Inputs) -> Bench:
        """Takes the first images, of large ones the middle."""
        tensor, original = inputs.tensor[:_IMAGES], inputs.original
        if original is not None:
            upscale = original.shape[-1] // tensor.shape[-1]
            side = min(_SIDE, tensor.shape[-1])
            tensor, original = _middle(tensor, side), _middle(original[:_IMAGES], side * upscale)
        return cls(network, label, tensor, original, run_network(network, tensor, label))

    def effect(self, layer: Layer, way: str) -> Effect:
        """Measures the effect of one layer's bits by one of :data:`WAYS`.

        A float layer reads ``a B + b`` in place of its input, a and b the best for each channel by least squares. A
        binary layer makes its bits by that threshold in place of its own.
        """
        with _replaced(layer, WAY[way].make):
            changed = run_network(self.network, self.inputs, self.label)
        return self._compare(changed)

    def _compare(self, changed: Tensor) -> Effect:
        dims = tuple(i for i in range(self.result.ndim) if i != 1)
        squares = (changed - self.result).double().square()
        spread = self.result.double().var(dim=dims, correction=0)
        planes = (squares.mean(dims) / spread).sqrt() if self.result.ndim == 4 else squares.new_zeros(0)
        total = self.result.double().var(correction=0)
        return Effect(
            error=_root_ratio(float(squares.mean()), float(total)),
            planes=tuple(float(plane) for plane in planes),
            loss=self._loss(changed),
        )

    def _loss(self, changed: Tensor) -> float:
        if self.original is not None:
            return _psnr(self.result, self.original) - _psnr(changed, self.original)
        if self.result.ndim != 2:
            return math.nan
        return float((changed.argmax(1) != self.result.argmax(1)).double().mean())


def _root_ratio(error: float, spread: float) -> float:
    """NaN where the unchanged result is constant: there is nothing to compare with."""
    return math.sqrt(error / spread) if spread > 0 else math.nan


def _psnr(image: Tensor, original: Tensor) -> float:
    error = float((image.clamp(0, 1) - original).double().square().mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def _middle(x: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in x.shape[2:])
    return x[:, :, top : top + side, left : left + side].contiguous()


def fitted_bits(x: Tensor, threshold: Threshold) -> Tensor:
    """``a B + b`` for ``(N, C, H, W)``, with the a and b of each channel that come nearest to it by least squares."""
    bits = bits_by(threshold, x.float()).to(x.dtype) * 2 - 1
    mean, middle = (t.mean(dim=(0, 2, 3), keepdim=True) for t in (x, bits))
    variance = bits.var(dim=(0, 2, 3), correction=0, keepdim=True)
    both = ((x - mean) * (bits - middle)).mean(dim=(0, 2, 3), keepdim=True)
    slope = torch.where(variance > 0, both / variance.clamp(min=torch.finfo(x.dtype).tiny), torch.zeros_like(both))
    return slope * (bits - middle) + mean


@contextmanager
def _replaced(layer: Layer, make: Callable[[Means], Threshold]) -> Iterator[None]:
    handles = list(_hooks(layer.module, make))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(module: nn.Module, make: Callable[[Means], Threshold]) -> Sequence[Any]:
    if isinstance(module, PackedBinaryConv2d):
        given: list[Tensor] = []

        def keep(layer: nn.Module, args: tuple[Any, ...]) -> None:
            given[:] = [args[0].clone()]  # the layer may put its result in its place

        def again(layer: nn.Module, args: tuple[Any, ...], result: Tensor) -> Tensor:
            x = given.pop()
            return _with_threshold(module, make(Means(x.float())))(x).to(result.dtype)

        return module.register_forward_pre_hook(keep), module.register_forward_hook(again)
    if isinstance(module, BinaryConv2d):

        def other(part: nn.Module, args: tuple[Any, ...], result: Tensor) -> Tensor:
            return bits_by(make(Means(args[0].float())), args[0].float()).to(result.dtype) * 2 - 1

        return (module.binarize_input.register_forward_hook(other),)

    def fitted(conv: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (fitted_bits(args[0], make(Means(args[0].float()))), *args[1:])

    return (module.register_forward_pre_hook(fitted),)


def _with_threshold(layer: PackedBinaryConv2d, threshold: Threshold) -> PackedBinaryConv2d:
    config = replace(
        layer.config,
        threshold=threshold.kind,
        window=threshold.window,
        shift=threshold.shift is not None,
        gain=threshold.gain is not None,
    )
    twin = PackedBinaryConv2d(config)
    values = dict(layer.named_buffers()) | {"threshold_shift": threshold.shift, "threshold_gain": threshold.gain}
    for name, buffer in twin.named_buffers():
        value = values[name]
        assert value is not None
        buffer.copy_(value)
    return twin
