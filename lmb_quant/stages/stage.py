# SPDX-License-Identifier: Apache-2.0
"""What a network does, stage by stage; each works on the value before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.modules import PackedBinaryConv2d
from lmb_quant.ops.binary_conv2d.spec import packed_act
from lmb_quant.ops.geometry import padding_of

MODES = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Range:
    """``(x + offset) * gain``."""

    offset: float
    gain: float


@dataclass(frozen=True, eq=False)
class Conv:
    """``act(conv(x))``, with ``skip`` ``x + act(conv(x))``: real, of stride 1, dense, in groups or depthwise."""

    layer: nn.Conv2d
    act: nn.Module | None = None
    skip: bool = False


@dataclass(frozen=True, eq=False)
class Binary:
    """A packed layer, with all that its configuration says."""

    layer: PackedBinaryConv2d


@dataclass(frozen=True, eq=False)
class Act:
    """An activation function alone."""

    act: nn.Module


@dataclass(frozen=True)
class Add:
    """``v + alpha * x``, v the value of that number: 0 is the image, i the result of stage i, counted from 1."""

    value: int
    alpha: float = 1.0


@dataclass(frozen=True)
class Shuffle:
    """PixelShuffle; the last stage, or the one before :class:`AddUpscaled`."""

    upscale: int


@dataclass(frozen=True)
class AddUpscaled:
    """The upscaled image plus ``alpha * x``; the last stage, after :class:`Shuffle`."""

    upscale: int
    mode: str
    alpha: float


@dataclass(frozen=True)
class Upscale:
    """The upscaled image; the first stage."""

    upscale: int
    mode: str


Stage = Range | Conv | Binary | Act | Add | Shuffle | AddUpscaled | Upscale


class Stages:
    """The stages of a network, written down in order.

    Args:
        channels: Of the image.

    Example:
        >>> stages = Stages(3)
        >>> stages.conv(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU())
        >>> stages.shuffle(2)
        >>> [type(stage).__name__ for stage in stages]
        ['Conv', 'Shuffle']
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._stages: list[Stage] = []

    def __iter__(self) -> Iterator[Stage]:
        """The stages in order."""
        return iter(self._stages)

    @property
    def value(self) -> int:
        """The number of the newest value, which the next stage works on."""
        return len(self._stages)

    def range(self, offset: float, gain: float) -> None:
        """``(x + offset) * gain``."""
        self._stages.append(Range(_number("offset", offset), _number("gain", gain)))

    def conv(self, layer: nn.Module, act: nn.Module | None = None, *, skip: bool = False) -> None:
        """A convolution, packed or real, and ``act`` after it, unless a packed layer brings its own.

        Args:
            layer: A packed layer, or a real convolution.
            act: The network's activation function, or none.
            skip: Whether the network adds the input after it, beside what a packed layer adds itself.

        Raises:
            LMBError: If the engine has no stage for it.
        """
        if type(layer) is PackedBinaryConv2d:
            x = self.value
            self._stages.append(Binary(layer))
            if act is not None and not layer.replaces_act:
                self.act(act)
            if skip:
                self.add(x)
            return
        if type(layer) is not nn.Conv2d:
            raise LMBError(f"{type(layer).__name__} is no stage of the engine. Allowed: Conv2d, PackedBinaryConv2d.")
        kernel = layer.kernel_size[0]
        half = kernel // 2
        keeps = (
            layer.kernel_size == (kernel, kernel) and kernel % 2 == 1 and kernel <= 15
            and layer.stride == layer.dilation == (1, 1) and padding_of(layer) == (half,) * 4
            and layer.padding_mode == "zeros"
        )  # fmt: skip
        if not keeps:
            raise LMBError(
                f"Conv2d of kernel {layer.kernel_size}, stride {layer.stride}, padding {layer.padding!r} "
                f"({layer.padding_mode}), dilation {layer.dilation} is no stage of the engine. Allowed: odd squares "
                "up to 15 that keep the size with zeros around it."
            )
        if act is not None:
            packed_act(act)
        self._stages.append(Conv(layer, act, skip))

    def parts(self, parts: nn.Module, kind: type[nn.Module]) -> None:
        """The stages of modules in a row, each of which writes down its own.

        Args:
            parts: The row.
            kind: Its class; of another one it is not known what it does with them.

        Raises:
            LMBError: If the class is another one, or a module says no stages.
        """
        if type(parts) is not kind:
            raise LMBError(f"{type(parts).__name__} is no stage of the engine. Allowed here: {kind.__name__}.")
        for part in parts.children():
            if not isinstance(part, HasOwnStages):
                raise LMBError(f"{type(part).__name__} is no stage of the engine: it has no add_stages().")
            part.add_stages(self)

    def act(self, act: nn.Module) -> None:
        """An activation function.

        Raises:
            LMBError: If the engine does not have it.
        """
        packed_act(act)
        self._stages.append(Act(act))

    def add(self, value: int, alpha: float = 1.0) -> None:
        """The value of that number plus ``alpha`` times the newest one."""
        self._stages.append(Add(_whole("value", value, 0), _number("alpha", alpha)))

    def shuffle(self, upscale: int) -> None:
        """PixelShuffle."""
        self._stages.append(Shuffle(_whole("upscale", upscale, 1)))

    def add_upscaled(self, upscale: int, mode: str, alpha: float) -> None:
        """The upscaled image plus ``alpha`` times the newest value.

        Raises:
            LMBError: If the engine does not have the mode.
        """
        self._stages.append(AddUpscaled(_whole("upscale", upscale, 1), _mode(mode), _number("alpha", alpha)))

    def upscale(self, upscale: int, mode: str) -> None:
        """The upscaled image.

        Raises:
            LMBError: If the engine does not have the mode.
        """
        self._stages.append(Upscale(_whole("upscale", upscale, 1), _mode(mode)))


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LMBError(f"{name}: {value!r} is no stage's. Allowed: a number.")
    return value


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LMBError(f"{name}: {value!r} is no stage's. Allowed: a whole number from {least}.")
    return value


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise LMBError(unknown_name("mode of a stage", mode, MODES))
    return mode


@runtime_checkable
class HasOwnStages(Protocol):
    """A part of a network that says its stages."""

    def add_stages(self, stages: Stages) -> None:
        """Writes down what its forward does to the newest value."""
