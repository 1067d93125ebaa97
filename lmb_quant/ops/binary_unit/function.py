# SPDX-License-Identifier: Apache-2.0
"""The autograd function of a unit: a layer keeps its input and its bits, and computes the rest again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from lmb_quant.ops._library import Library
from lmb_quant.ops.binary_conv2d import EngineLayer, LayerArguments
from lmb_quant.ops.threshold import Threshold

from . import _engine
from .convolutions import gradient_convolutions
from .derivative import derivative_of

_LAST = torch.channels_last


@dataclass(frozen=True, eq=False)
class Comparison:
    """An activation binariser as data: the comparison and what stands for its derivative.

    Args:
        threshold: With the live parameters as shift and gain.
        surrogate: g, a name of :func:`lmb_quant.ops.surrogate_derivative`.
        detach_threshold: Whether no gradient goes through the mean.
        normalize: As in :func:`lmb_quant.ops.local_mean_sign`.
        progress: As in :func:`lmb_quant.ops.surrogate_derivative`.
    """

    threshold: Threshold
    surrogate: str
    detach_threshold: bool = False
    normalize: str = "none"
    progress: Tensor | None = None


class Unit(NamedTuple):
    """What of a unit is no tensor; the words of :class:`lmb_quant.ops.LayerArguments`."""

    kernel_size: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    act: str
    act_on: str
    skip: bool
    bf16: bool
    """Whether gradient convolutions run by oneDNN in bfloat16."""


class _Made:
    """How a layer's output is made again: by its input and bits, until its backward pass."""

    def __init__(self, layer: EngineLayer, x: Tensor, bits: Tensor, skip: bool) -> None:
        self.parts: tuple[EngineLayer, Tensor, Tensor, bool] | None = (layer, x, bits, skip)
        self._version = x._version

    def source(self, output: Tensor) -> tuple[EngineLayer, Tensor, Tensor, bool] | None:
        """What makes the output; None where it, or the input it was made of, has been written to since."""
        unchanged = output._version == 0 and self.parts is not None and self.parts[1]._version == self._version
        return self.parts if unchanged else None


# An output that can be made again need not be kept by the layer that reads it. Only layers that keep their own input
# are in here, so every second layer of a row keeps one.
_made = WeakTensorKeyDictionary()


class _BinaryUnit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        unit: Unit,
        comparison: Comparison,
        x: Tensor,
        signs: Tensor,
        alpha: Tensor,
        bias: Tensor | None,
        shift: Tensor | None,
        gain: Tensor | None,
        slope: Tensor | None,
        gamma: Tensor | None,
        zeta: Tensor | None,
        pixel_factor: Tensor | None,
    ) -> Tensor:
        values = x.contiguous(memory_format=_LAST)
        tensors = (bias, shift, gain, slope, gamma, zeta, pixel_factor)
        arguments = _arguments(library, unit, comparison, signs, alpha, tensors)
        layer = EngineLayer(library, arguments, x.shape[1])
        out, bits = layer.run_keeping_bits(values, unit.skip)
        made = _made.get(x)
        source = None if made is None else made.source(x)
        ctx.source = None
        if source is None:
            ctx.save_for_backward(values, bits, shift, gain, comparison.progress)
        else:
            ctx.source = (source[0], source[3])
            ctx.save_for_backward(source[1], bits, shift, gain, comparison.progress, source[2])
        ctx.layer, ctx.unit, ctx.comparison, ctx.signs = layer, unit, comparison, arguments.weight_packed
        ctx.sizes = [None if t is None else t.shape for t in tensors]
        ctx.made = _Made(layer, values, bits, unit.skip) if source is None else None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bits, shift, gain, progress, *before = ctx.saved_tensors
        kept, made_again = x, ctx.source is not None
        if made_again:
            layer_before, skip_before = ctx.source
            x = layer_before.run_bits(kept, before[0], skip_before)
        if ctx.made is not None:
            ctx.made.parts = None
        layer, unit, wanted = ctx.layer, ctx.unit, ctx.needs_input_grad[3:]
        comparison, threshold = ctx.comparison, ctx.comparison.threshold
        grad_out = grad.float().contiguous(memory_format=_LAST)

        outputs, inputs = grad.shape[1], x.shape[1]
        out: dict[str, Tensor | None] = {}
        for name, want, count in zip(
            ("grad_bias", "grad_shift", "grad_gain", "grad_slope", "grad_gamma", "grad_zeta", "grad_factor"),
            wanted[3:], (outputs, inputs, inputs, outputs, outputs, outputs, inputs + 1), strict=True,
        ):  # fmt: skip
            out[name] = grad_out.new_empty(count) if want else None
        has_factor = ctx.sizes[-1] is not None
        if has_factor and out["grad_factor"] is None:
            out["grad_factor"] = grad_out.new_empty(inputs + 1)
        wants_bits = wanted[0] or out["grad_shift"] is not None or out["grad_gain"] is not None or has_factor
        # image by image the engine has read x before it writes the gradient: one that was made again is its place
        out["grad_x"] = (x if made_again else torch.empty_like(x)) if wanted[0] else None
        weight = grad_out.new_empty(outputs, *unit.kernel_size, inputs // unit.groups) if wanted[1] else None

        derivative, surrogate = None, _engine.ENGINE_SURROGATES.get(comparison.surrogate, 0)
        if comparison.normalize != "none":
            surrogate = 0
        if surrogate == 0 and wants_bits:
            derivative = derivative_of(x, threshold, shift, gain, comparison.surrogate, comparison.normalize, progress)
        common = {"surrogate": surrogate, "detach": comparison.detach_threshold, "skip": unit.skip}
        given = {"bits": bits, "grad_out": grad_out, "derivative": derivative}
        finite = False
        if layer.has_gradients and not unit.bf16:
            finite = _engine.backward(layer, x, **common, given=given, out={**out, "grad_weight": weight})
        grad_weight = None if weight is None else weight.permute(0, 3, 1, 2)
        if not finite:  # or not here: the convolutions by oneDNN, between the engine's two parts
            if out["grad_x"] is x:
                x = layer_before.run_bits(kept, before[0], skip_before)
            grad_conv = torch.empty_like(grad_out)
            maps = {
                "grad_skip": torch.empty_like(grad_out) if unit.skip and unit.act_on == "sum" else None,
                "grad_factor_map": x.new_empty(x.shape[0], *x.shape[2:]) if has_factor else None,
            }
            first = ("grad_bias", "grad_slope", "grad_gamma", "grad_zeta", "grad_factor")
            _engine.backward(
                layer, x, **common, given=given, out={**{k: out[k] for k in first}, **maps, "grad_conv": grad_conv}
            )
            grad_bits, grad_weight = gradient_convolutions(
                grad_conv, bits, ctx.signs, inputs, unit, wants_bits, wanted[1]
            )
            if wants_bits:
                second = {k: out[k] for k in ("grad_x", "grad_shift", "grad_gain", "grad_factor")}
                _engine.backward(layer, x, **common, given={**given, **maps, "grad_bits": grad_bits}, out=second)
        rest = [
            _like(out[name] if want else None, size)
            for name, want, size in zip(
                ("grad_bias", "grad_shift", "grad_gain", "grad_slope", "grad_gamma", "grad_zeta", "grad_factor"),
                wanted[3:], ctx.sizes, strict=True,
            )
        ]  # fmt: skip
        return None, None, None, out["grad_x"], grad_weight, None, *rest


def _arguments(
    library: Library,
    unit: Unit,
    comparison: Comparison,
    signs: Tensor,
    alpha: Tensor,
    tensors: Sequence[Tensor | None],
) -> LayerArguments:
    """The layer's arguments; ``tensors`` are those from the bias on."""
    threshold = comparison.threshold
    bias, shift, gain, slope, gamma, zeta, factor = tensors
    return LayerArguments(
        _engine.pack_signs(library, signs), alpha, bias, shift, gain, slope, gamma, zeta, factor,
        unit.kernel_size, unit.stride, unit.padding, unit.dilation,
        unit.groups, threshold.kind, threshold.window, unit.act, unit.act_on, unit.skip,
    )  # fmt: skip


def _like(grad: Tensor | None, size: torch.Size | None) -> Tensor | None:
    """The gradient of a parameter; one slope for all channels has the sum of theirs."""
    if grad is None or size is None:
        return None
    return grad.sum().reshape(size) if size.numel() == 1 and grad.numel() > 1 else grad.reshape(size)


def binary_unit(
    library: Library,
    unit: Unit,
    comparison: Comparison,
    x: Tensor,
    signs: Tensor,
    alpha: Tensor,
    *,
    bias: Tensor | None = None,
    slope: Tensor | None = None,
    gamma: Tensor | None = None,
    zeta: Tensor | None = None,
    pixel_factor: Tensor | None = None,
) -> Tensor:
    r"""Computes ``act(f * alpha * conv(B, S) + bias) [+ x]``, or ``act(... + x)``, differentiable once.

    Bits equal those of :func:`lmb_quant.ops.local_mean_sign` and the like, values and gradients those of the same unit
    in plain PyTorch to float32 rounding. Of its tensors a layer keeps ``x`` and the bits; where ``x`` is another such
    layer's output, only its bits, and makes x again.

    Args:
        library: The engine.
        unit: All that is no tensor.
        comparison: How the bits B are made of x.
        x: ``(N, I, H, W)``, float32, on the CPU, any memory format.
        signs: S, ``(O, I / groups, Kh, Kw)``, -1 and +1, float32; its gradient is alpha times that of ``alpha * S``.
        alpha: ``(O,)``, float32; no gradient reaches it.
        bias: ``(O,)``.
        slope: ``(O,)`` or ``(1,)``, of the activation function.
        gamma: ``(O,)``.
        zeta: ``(O,)``.
        pixel_factor: ``(I + 1,)``, as in :func:`lmb_quant.ops.binary_conv2d`.

    Returns:
        ``(N, O, H', W')``, float32, channels-last.

    Raises:
        LMBError: If the engine refuses the layer.

    Source:
        Gradient convolutions by tables of sums with signs: this project's choice.
    """
    threshold = comparison.threshold
    if not torch.is_grad_enabled():
        tensors = (bias, threshold.shift, threshold.gain, slope, gamma, zeta, pixel_factor)
        layer = EngineLayer(library, _arguments(library, unit, comparison, signs, alpha, tensors), x.shape[1])
        return layer.run_anew(x.contiguous(memory_format=_LAST), unit.skip)
    out: Tensor = _BinaryUnit.apply(
        library,
        unit,
        comparison,
        x,
        signs,
        alpha,
        bias,
        threshold.shift,
        threshold.gain,
        slope,
        gamma,
        zeta,
        pixel_factor,
    )  # type: ignore[no-untyped-call]
    made = getattr(out.grad_fn, "made", None)
    if made is not None:
        _made[out] = made
    return out
