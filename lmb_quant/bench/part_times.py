# SPDX-License-Identifier: Apache-2.0
"""Cycles of each part of a packed layer and of the real stages, inside the engine, beside what the ports allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.machine import Machine
from lmb_quant.modules import PackedBinaryConv2d, RPReLU, binary_convs
from lmb_quant.ops._library import find
from lmb_quant.ops.network import PARTS
from lmb_quant.packing import convert
from lmb_quant.rewrite import binarize
from lmb_quant.stages import Stages, network_of
from lmb_quant.table import render

from .child import in_child
from .kernels import BEST
from .measure import require, sqnr, thread_count
from .networks import make_image
from .report import to_json

LEAST_SQNR = 60.0
_UPSCALE = 4


@dataclass(frozen=True)
class Ports:
    """What a core does in a cycle: ``fmas`` multiply-adds of ``lanes`` floats, ``operations`` on vectors, ``loads``.

    AVX2: AMD from Zen 2 on, Intel has three operations. AVX-512: Zen 5; others do half of that.
    """

    lanes: int
    fmas: int
    operations: int
    loads: int


PORTS = {"avx2": Ports(8, 2, 4, 2), "avx512": Ports(16, 2, 4, 2)}


@dataclass(frozen=True)
class Part:
    """One part of a stage, cycles a pixel of the LR image; ``limit`` is None where no port says one."""

    stage: str
    name: str
    cycles: float
    limit: float | None


@dataclass(frozen=True)
class StageParts:
    """All parts at one channel count by one kernel; ``sqnr`` is that of the output against the modules, dB."""

    channels: int
    kernel: str
    gigahertz: float
    sqnr: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class IsaParts:
    """All channel counts by one instruction set, measured in one process."""

    isa: str
    machine: Machine
    layers: tuple[StageParts, ...]


@dataclass(frozen=True)
class PartReport:
    """Cycles a pixel; ``print`` shows them."""

    size: tuple[int, int]
    runs: int
    isas: tuple[IsaParts, ...]

    def __str__(self) -> str:
        return "\n\n".join(self._table(times.machine, layer) for times in self.isas for layer in times.layers)

    def _table(self, machine: Machine, layer: StageParts) -> str:
        title = (
            f"parts of the engine's stages, {layer.channels} channels ({layer.kernel}), on {self.size[0]} x "
            f"{self.size[1]} pixels; one thread; wall time x {layer.gigahertz:.2f} GHz, measured by a chain of "
            f"additions; of each piece of a row the least of {self.runs} runs; output against the modules: "
            f"{layer.sqnr:.0f} dB SQNR\n{machine}"
        )
        rows = [
            (
                part.stage if i == 0 or layer.parts[i - 1].stage != part.stage else "",
                part.name,
                f"{part.cycles:.1f}",
                "" if part.limit is None else f"{part.limit:.1f}",
                "" if part.limit is None else f"{100 * part.limit / part.cycles:.0f} %" if part.cycles else "",
            )
            for i, part in enumerate(layer.parts)
        ]
        return render(title, ("stage", "part", "cycles a pixel", "port limit", "reached"), rows, right=(2, 3, 4))

    def to_json(self) -> str:
        """The figures as JSON; cycles."""
        return to_json(self)


def measure_parts(
    *,
    channels: Sequence[int] = (64,),
    size: tuple[int, int] = (180, 320),
    isas: Sequence[str] = (BEST,),
    runs: int = 15,
    tell: Callable[[str], None] = lambda _: None,
) -> PartReport:
    """Times the parts of one network that has every kind of stage, in the engine's own run of it, on one thread.

    Its stages are a head (3 x 3, 3 channels), a layer of the recipe ``lmb`` and one of ``lmb-spatial``, a depthwise, a
    pointwise and a 3 x 3 convolution, and a pointwise tail that enlarges by 4.

    Args:
        channels: Channel counts of the body, each a network.
        size: Height and width of the image, pixels.
        isas: Instruction sets, ``"best"`` for the one in use. A named one is measured in a process of its own.
        runs: Runs of the network; each piece of a row counts by its least time.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If the engine is not there, an output is wrong, or an argument or instruction set cannot be used.
    """
    for name, values in (("channels", channels), ("size", size), ("runs", (runs,))):
        if not values or min(values) < 1:
            raise LMBError(f"{name}: {tuple(values)!r} is not allowed. Allowed: whole numbers above 0.")
    found = []
    for isa in isas:
        job = (isa, tuple(channels), size, runs)
        if isa == BEST:
            found.append(_measure(*job, tell=tell))
        else:
            tell(f"{isa}, in a process of its own")
            found.append(in_child(_measure, *job, environment={"LMB_QUANT_ISA": isa}))
    return PartReport(size, runs, tuple(found))


class PartNetwork(nn.Module):
    """A network that has every kind of stage, with random parameters; maps ``(N, 3, H, W)`` to four times the size.

    Args:
        channels: Of the body.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.head_act, self.act = nn.PReLU(channels), nn.PReLU(channels)
        self.lmb, self.spatial = _packed(channels, "lmb"), _packed(channels, "lmb-spatial")
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.conv, self.conv_act = nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)
        self.tail, self.shuffle = nn.Conv2d(channels, 3 * _UPSCALE**2, 1), nn.PixelShuffle(_UPSCALE)

    def forward(self, x: Tensor) -> Tensor:
        """What the stages compute."""
        y = self.spatial(self.lmb(self.head_act(self.head(x))))
        y = y + self.depthwise(y)
        y = y + self.act(self.pointwise(y))
        y = y + self.conv_act(self.conv(y))
        up = nn.functional.interpolate(x, scale_factor=_UPSCALE, mode="bilinear", align_corners=False)
        return up + self.shuffle(self.tail(y))

    def stages(self) -> Stages:
        """The same, as the engine runs it."""
        stages = Stages(channels=3)
        stages.conv(self.head, self.head_act)
        stages.conv(self.lmb)
        stages.conv(self.spatial)
        stages.conv(self.depthwise, skip=True)
        stages.conv(self.pointwise, self.act, skip=True)
        stages.conv(self.conv, self.conv_act, skip=True)
        stages.conv(self.tail)
        stages.shuffle(_UPSCALE)
        stages.add_upscaled(_UPSCALE, "bilinear", 1.0)
        return stages


def _packed(channels: int, recipe: str) -> PackedBinaryConv2d:
    """The packed layer that a recipe makes of a 3 x 3 convolution in the middle of a network."""
    sides = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 3, 3, padding=1)
    model = binarize(nn.Sequential(sides[0], nn.Conv2d(channels, channels, 3, padding=1), sides[1]), recipe)
    for conv in binary_convs(model):
        parameters = [*(conv.act.parameters() if isinstance(conv.act, RPReLU) else ())]
        parameters += [] if conv.rescale is None else conv.rescale.parameters()
        for parameter in parameters:
            nn.init.normal_(parameter, std=0.1)
    layer = convert(model)[1]  # type: ignore[index]
    assert isinstance(layer, PackedBinaryConv2d)
    return layer


def _measure(
    isa: str, channels: Iterable[int], size: tuple[int, int], runs: int, tell: Callable[[str], None] = lambda _: None
) -> IsaParts:
    library, reason = find()
    if library is None:
        raise LMBError(f"--parts: there is no engine to be timed: {reason}.")
    selected, machine, layers = library.selected_isa(), Machine(), []
    for count in channels:
        tell(f"{count} channels")
        with torch.inference_mode(), torch.random.fork_rng(devices=()), thread_count(1):
            torch.manual_seed(0)
            layers.append(_measure_network(count, size, runs, PORTS.get(selected)))
    return IsaParts(isa, machine, tuple(layers))


def _measure_network(channels: int, size: tuple[int, int], runs: int, ports: Ports | None) -> StageParts:
    network, image = PartNetwork(channels).eval(), make_image(*size)
    engine = network_of(network)
    assert engine is not None
    profile = engine.profile(image, runs)
    found = sqnr(network(image), profile.output)
    require(f"{channels} channels", found, LEAST_SQNR)
    names = ("head 3 x 3", "lmb", "lmb-spatial", "depthwise 3 x 3", "pointwise", "3 x 3", "pointwise tail")
    limits = limits_of(channels, ports) if ports else {}
    per_pixel = profile.gigahertz / (size[0] * size[1])
    parts = []
    for name, times in zip(names, profile.nanoseconds, strict=False):
        binary = times["threshold"] > 0 or times["packing"] > 0
        for part in PARTS if binary else ("sums", "rest"):
            parts.append(Part(name, part, times[part] * per_pixel, limits.get((name, part))))
        if binary:
            stated = [limits.get((name, part)) for part in PARTS]
            total = sum(limit for limit in stated if limit is not None) if limits else None
            parts.append(Part(name, "all", sum(times.values()) * per_pixel, total))
    end = sum(sum(times.values()) for times in profile.nanoseconds[len(names) :])
    parts.append(Part("enlarging", "rest", end * per_pixel, None))
    return StageParts(channels, network.lmb.kernel, profile.gigahertz, found, tuple(parts))


def limits_of(channels: int, ports: Ports) -> dict[tuple[str, str], float]:
    """Cycles a pixel that the operations of a part need where nothing else binds, by stage and part.

    Of real stages the multiply-adds; of binary ones all operations on vectors, or their loads where these take longer.
    docs/speed.md counts them.

    Args:
        channels: Of the body.
        ports: Of the instruction set.
    """
    vectors, window = ceil(channels / ports.lanes), 3

    def fused(products: int) -> float:
        return products * vectors / ports.fmas

    limits = {
        ("head 3 x 3", "sums"): fused(9 * 3),
        ("depthwise 3 x 3", "sums"): fused(9),
        ("pointwise", "sums"): fused(channels),
        ("3 x 3", "sums"): fused(9 * channels),
        ("pointwise tail", "sums"): channels * ceil(3 * _UPSCALE**2 / ports.lanes) / ports.fmas,
    }
    compare = 2 * (window - 1) + 8
    if ports is PORTS["avx2"]:
        groups, outputs = 9 * ceil(channels / 4), ceil(channels / (4 * ports.lanes))
        lookups = groups * outputs / 2  # of two pixels each
        tables = groups * ceil(outputs / 2) / 2
        sums = max(lookups * 17 / 6 / ports.operations, (lookups + tables) / ports.loads)
        packing, epilogue = 11 * ceil(channels / 64), 11
    else:
        sums = 9 * ceil(channels / 32) * vectors * 3 / ports.operations
        packing, epilogue = 0, 9
    for name, affine, factor in (("lmb", 0, 0), ("lmb-spatial", 2, 1)):
        limits |= {
            (name, "threshold"): (compare + affine) * vectors / ports.operations,
            (name, "packing"): packing / ports.operations,
            (name, "sums"): sums,
            (name, "epilogue"): (epilogue + factor) * vectors / ports.operations,
            (name, "rest"): 2 * factor * vectors / ports.operations,
        }
    return limits
