# SPDX-License-Identifier: Apache-2.0
"""The inference form of a binary convolution: packed bits, one operator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import profiler

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops import LayerArguments, binary_conv2d, weight_scale
from lmb_quant.ops._dispatch import is_plain, something_records
from lmb_quant.ops.binary_conv2d import binary_conv2d_, forget, kernel_of
from lmb_quant.ops.binary_conv2d.direct import DirectLayer
from lmb_quant.ops.binary_conv2d.reference import pack_bits
from lmb_quant.ops.binary_conv2d.spec import (
    ACT_ON,
    ACTS,
    MAX_CHANNELS,
    MAX_KERNEL,
    MAX_PADDING,
    MAX_STEP,
    SCALARS,
    TENSORS,
    is_given,
    packed_act,
)
from lmb_quant.ops.geometry import keeps_sides, padding_of
from lmb_quant.ops.threshold import Threshold, check_threshold

from .activation import NONE
from .conv import BinaryConv2d
from .last_reader import is_spent

_BUFFERS = tuple(tensor.buffer for tensor in TENSORS.values())


class _Direct(NamedTuple):
    layer: DirectLayer  # holds the tensors, so that no other gets an id of theirs
    config: PackedConfig
    ids: list[int]


_DIRECT: WeakKeyDictionary[PackedBinaryConv2d, _Direct] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class PackedConfig:
    """All of a packed layer that is not a tensor; plain values that JSON holds.

    ``padding`` is (top, left, bottom, right). ``threshold`` and ``window`` as in :class:`lmb_quant.ops.Threshold`;
    ``shift``, ``gain`` and ``bias`` say whether there is one. ``act_on`` says whether ``act`` is taken of the
    ``branch``, before the skip, or of the ``sum``. ``slopes`` is how many the act has: 1 or O for ``prelu``, O for
    ``rprelu``. ``pixel_factor`` says whether each pixel has a factor, computed from its input values.

    Raises:
        LMBError: If a value is not allowed.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    threshold: str = "none"
    window: int = 1
    shift: bool = False
    gain: bool = False
    bias: bool = False
    act: str = "none"
    act_on: str = "branch"
    slopes: int = 0
    skip: bool = False
    pixel_factor: bool = False

    def __post_init__(self) -> None:
        self._check("in_channels", (self.in_channels,), 1, 1, MAX_CHANNELS)
        self._check("out_channels", (self.out_channels,), 1, 1, MAX_CHANNELS)
        self._check("kernel_size", self.kernel_size, 2, 1, MAX_KERNEL)
        self._check("stride", self.stride, 2, 1, MAX_STEP)
        self._check("padding", self.padding, 4, 0, MAX_PADDING)
        self._check("dilation", self.dilation, 2, 1, MAX_STEP)
        self._check("groups", (self.groups,), 1, 1, MAX_CHANNELS)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise LMBError(f"groups: {self.groups!r} is not allowed. Allowed: a divisor of both channel counts.")
        for name in (*(name for name, tensor in TENSORS.items() if tensor.given == "flag"), "skip"):
            if not isinstance(getattr(self, name), bool):
                raise LMBError(f"{name}: {getattr(self, name)!r} is not allowed. Allowed: true or false.")
        check_threshold(self.threshold, self.window, self.shift, self.gain)
        if self.act not in ACTS:
            raise LMBError(unknown_name("packed act", self.act, ACTS))
        if self.act_on not in ACT_ON:
            raise LMBError(unknown_name("act_on", self.act_on, ACT_ON))
        counts = ACTS[self.act].slope_counts(self.out_channels)
        if type(self.slopes) is not int or self.slopes not in counts:
            raise LMBError(f"slopes: {self.slopes!r} is not allowed for act {self.act!r}. Allowed: {counts}.")
        if self.pixel_factor and not self._keeps_size:
            raise LMBError("pixel_factor: True is not allowed where the output has not the input's height and width.")

    @staticmethod
    def _check(name: str, values: tuple[int, ...], count: int, low: int, high: int) -> None:
        whole = isinstance(values, tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        if not whole or len(values) != count or min(values) < low or max(values) > high:
            raise LMBError(f"{name}: {values!r} is not allowed. Allowed: {count} whole, {low} to {high}.")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Buffer name -> shape; ``weight_packed`` is uint8, all others float32."""
        taps = math.prod(self.kernel_size) * math.ceil(self.in_channels // self.groups / 8)
        others = {"weight_packed": (self.out_channels, taps), "slope": (self.slopes,)}
        return {
            tensor.buffer: others.get(name, (tensor.length(self.in_channels, self.out_channels),))
            for name, tensor in TENSORS.items()
            if is_given(name, self, self.act)
        }

    @property
    def keeps_shape(self) -> bool:
        """Whether the output has the shape of the input, at every size."""
        return self.in_channels == self.out_channels and self._keeps_size

    @property
    def _keeps_size(self) -> bool:
        return keeps_sides(self.kernel_size, self.stride, self.padding, self.dilation)

    def unit_macs(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Real multiplications of one run: of thresholds, and of pixel factors, which are computed and applied.

        Args:
            before: Size of the input, ``(N, I, H, W)``.
            after: Size of the output, ``(N, O, H', W')``.
        """
        return (self.gain + self.pixel_factor) * math.prod(before) + self.pixel_factor * math.prod(after)

    @property
    def additions_per_value(self) -> int:
        """Real additions that local means cost for each input value."""
        return {"local": 2 * (self.window - 1) + self.shift, "global": 1 + self.shift}.get(self.threshold, 0)


class PackedBinaryConv2d(nn.Module):
    """A binary convolution with packed weights and all that surrounds it, in one operator; inference only.

    ``y = act(f * scale * conv(B, W) + bias) [+ x]``, or ``act(... + x)``, the norm folded into scale and bias; f is 1,
    or a factor of each pixel. All state is in buffers, their layout is docs/bit_layout.md. ``.half()`` and the like
    leave the float buffers in float32. Equal to the training form in eval mode: identical bits, values to float32
    rounding.

    Args:
        config: The layer; buffers hold zeros until they are loaded.

    Raises:
        LMBError: From ``forward``, where a gradient is asked for or the input does not fit.
    """

    weight_packed: Tensor

    def __init__(self, config: PackedConfig, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.config = config
        for name in _BUFFERS:
            dtype = torch.uint8 if name == "weight_packed" else torch.float32
            shape = config.shapes.get(name)
            if shape is None:  # no buffer that is None: torch.export (2.13) miscounts those of the outermost module
                setattr(self, name, None)
            else:
                self.register_buffer(name, torch.zeros(shape, dtype=dtype, device=device))

    @classmethod
    @torch.no_grad()
    def from_binary(cls, conv: BinaryConv2d) -> Self:
        """Packs a training form; it is not changed.

        Raises:
            LMBError: If its binariser, norm or act has no packed form, or it carries hooks.
        """
        _refuse_hooks(conv)
        threshold = conv.binarize_input.packed_threshold()
        if threshold is None:
            raise LMBError(f"activation binarizer {conv.config.activation!r} has no packed form: no comparison().")
        if not conv.binarize_weight.is_pm1:
            raise LMBError(f"weight binarizer {conv.config.weight!r} has no packed form: its values are not -1 and +1.")
        factor = _pixel_factor(conv)
        scale, bias = _folded(conv)
        act, values = packed_act(conv.act)
        if act == NONE and conv.replaces_act:
            act, values = "prelu", {"slope": torch.ones(1)}  # y = x, and the file says that there is an act
        new = cls(
            PackedConfig(
                **geometry_of(conv),
                threshold=threshold.kind,
                window=threshold.window,
                shift=threshold.shift is not None,
                gain=threshold.gain is not None,
                bias=bias is not None,
                act=act,
                act_on=conv.config.act_on,
                slopes=values["slope"].numel() if "slope" in values else 0,
                skip=conv.config.skip,
                pixel_factor=factor is not None,
            ),
            device=conv.weight.device,
        )
        new.weight_packed.copy_(pack_bits(conv.binarize_weight(conv.weight) > 0))
        thresholds = {"shift": threshold.shift, "gain": threshold.gain}
        given = {"weight_scale": scale, "bias": bias, "pixel_factor": factor, **thresholds, **values}
        for name, value in given.items():
            if value is not None:
                new.get_buffer(TENSORS[name].buffer).copy_(value)
        return new.train(conv.training)

    @property
    def threshold(self) -> Threshold:
        """The comparison that makes its bits."""
        arguments = self.arguments()
        return Threshold(arguments.threshold, arguments.window, arguments.shift, arguments.gain)

    @property
    def replaces_act(self) -> bool:
        """Whether the unit's activation function takes the place of the network's own; ``identity`` is a slope of 1."""
        return self.config.act != NONE

    @property
    def has_skip(self) -> bool:
        """Whether the input is added to the output."""
        return self.config.skip

    @property
    def in_channels(self) -> int:
        """Channels of the input, as of ``nn.Conv2d``."""
        return self.config.in_channels

    @property
    def packed_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(t.numel() * t.element_size() for t in self.buffers())

    @property
    def kernel(self) -> str:
        """The kernel that runs this layer where it is now, e.g. ``"avx2-lut"`` or ``"reference"``."""
        return kernel_of(self.arguments(), self.config.in_channels)

    def arguments(self) -> LayerArguments:
        """What the packed operator takes of it."""
        c = self.config
        return LayerArguments(*(getattr(self, name) for name in _BUFFERS), *(getattr(c, name) for name in SCALARS))

    def forward(self, input: Tensor, overwrite: bool = False) -> Tensor:
        """Maps ``(N, I, H, W)`` to ``(N, O, H', W')``, channels-last, dtype of the input; also unbatched.

        Args:
            input: Floating point; computed in float32.
            overwrite: Whether the result may take the place of ``input``, which a network allows where nothing else
                reads it; done where shape and layout are equal. Within ``nn.Sequential`` the layer finds out by itself.

        Raises:
            LMBError: If a gradient is asked for, or shape or dtype do not fit.
        """
        if not something_records():
            direct = self._direct(input)
            if direct is not None:
                spent = overwrite or is_spent(input)  # on a line of its own: it counts what holds the input
                return direct.run(input, spent)
        if input.ndim == 3:
            return self.forward(input[None], overwrite)[0]
        if input.ndim != 4 or input.shape[1] != self.config.in_channels:
            allowed = f"(N, {self.config.in_channels}, H, W)"
            raise LMBError(f"input: shape {tuple(input.shape)} is not allowed in a packed layer. Allowed: {allowed}.")
        if input.device != self.weight_packed.device:
            hint = " Load its state first: load_state_dict(..., assign=True)." if self.weight_packed.is_meta else ""
            raise LMBError(
                f"input: it is on {input.device}, the packed layer on {self.weight_packed.device}. Allowed: both on "
                f"one device.{hint}"
            )
        if input.requires_grad and torch.is_grad_enabled():
            raise LMBError(
                "the packed form is for inference only, and its input asks for a gradient. Use torch.no_grad(), or "
                "train the form that convert() was given."
            )
        if overwrite and self.config.keeps_shape and not torch.onnx.is_in_onnx_export():  # ONNX overwrites nothing
            return binary_conv2d_(input, self.arguments())
        return binary_conv2d(input, self.arguments())

    def _direct(self, x: Tensor) -> DirectLayer | None:
        """What gives the operator's result for ``x`` with less overhead; None where the operator must run."""
        if not is_plain(x) or x.dtype != torch.float32 or x.ndim != 4 or profiler._is_profiler_enabled:
            return None
        if x.shape[1] != self.config.in_channels or (x.requires_grad and torch.is_grad_enabled()):
            return None
        ids = [*map(id, self._buffers.values()), *map(id, map(vars(self).get, _BUFFERS))]
        known = _DIRECT.get(self)
        if known is None or known.ids != ids or known.config is not self.config or not known.layer.is_current():
            arguments = self.arguments()
            if not DirectLayer.runs(arguments):
                return None
            known = _Direct(DirectLayer(arguments, x), self.config, ids)
            _DIRECT[self] = known
        return None if known.layer.asks_gradient() else known.layer

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        kept = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != value.dtype:  # .half(), .to(dtype): the definition is in float32
                self._buffers[name] = value.to(moved.device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        forget(self.weight_packed)
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        """The configuration in short, and the kernel."""
        c = self.config
        mean = f"{c.threshold} {c.window}" if c.threshold == "local" else c.threshold
        try:
            kernel = "none (meta)" if self.weight_packed.is_meta else self.kernel
        except LMBError as error:
            kernel = f"none: {error}"
        return (
            f"{c.in_channels}, {c.out_channels}, kernel_size={c.kernel_size}, stride={c.stride}, groups={c.groups}, "
            f"threshold={mean}, act={c.act}, skip={c.skip}, kernel={kernel}"
        )


def geometry_of(conv: nn.Conv2d) -> dict[str, Any]:
    """The values of a :class:`PackedConfig` that a convolution itself decides."""
    return {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": _pair(conv.kernel_size),
        "stride": _pair(conv.stride),
        "padding": padding_of(conv),
        "dilation": _pair(conv.dilation),
        "groups": conv.groups,
    }


def why_not_packed(conv: nn.Conv2d) -> str | None:
    """Says which size of a convolution is beyond what packed layers have; None where none is."""
    try:
        PackedConfig(**geometry_of(conv))
    except LMBError as error:
        return str(error)
    return None


def packed_convs(model: nn.Module) -> Iterator[PackedBinaryConv2d]:
    """Yields every :class:`PackedBinaryConv2d` of a model, each once."""
    return (module for module in model.modules() if isinstance(module, PackedBinaryConv2d))


def packed_convs_by_name(model: nn.Module) -> dict[str, PackedBinaryConv2d]:
    """Every :class:`PackedBinaryConv2d` of a model; one that is shared stands under each of its names."""
    modules = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in modules if isinstance(module, PackedBinaryConv2d)}


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second


def _refuse_hooks(conv: BinaryConv2d) -> None:
    for module in conv.modules():
        for name, hooks in vars(module).items():
            if name.endswith("_hooks") and hooks:
                raise LMBError(f"{type(module).__name__}: {name[1:]} have no packed form. Remove them, then convert.")


def _pixel_factor(conv: BinaryConv2d) -> Tensor | None:
    factor = None if conv.rescale is None else conv.rescale.packed_factor()
    if conv.rescale is not None and factor is None:
        raise LMBError(f"rescaler {conv.config.rescale!r} has no packed form (packed_factor()).")
    if conv.pre_norm is not None:
        raise LMBError(f"unit pre_norm: {conv.config.pre_norm!r} has no packed form. Allowed: 'none'.")
    return factor


def _folded(conv: BinaryConv2d) -> tuple[Tensor, Tensor | None]:
    """Scale and bias with the norm in them, computed in float64, float32."""
    scale = weight_scale(conv.weight, conv.config.alpha).double()
    bias = None if conv.bias is None else conv.bias.double()
    norm = conv.norm
    if isinstance(norm, nn.BatchNorm2d):
        if norm.running_mean is None or norm.running_var is None:
            raise LMBError("norm: a batch norm without running statistics has no packed form.")
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            factor = factor * norm.weight.double()
        bias = ((0 if bias is None else bias) - norm.running_mean.double()) * factor
        if norm.bias is not None:
            bias = bias + norm.bias.double()
        scale = scale * factor
    elif not isinstance(norm, nn.Identity):
        raise LMBError(f"norm: {type(norm).__name__} has no packed form. Allowed: BatchNorm2d.")
    return scale.float(), None if bias is None else bias.float()
