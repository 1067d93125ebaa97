# SPDX-License-Identifier: Apache-2.0
"""Time of one layer: packed against fp32, bf16, int8 and OpenVINO's 1-bit convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from lmb_quant.errors import LMBError
from lmb_quant.machine import Machine, multiplies_bf16
from lmb_quant.modules import PackedBinaryConv2d
from lmb_quant.table import render

from . import compiled, openvino_layer
from .child import in_child
from .layers import PACKED_IN_PLACE, Form, float_forms, make_input, make_layer, packed_forms, sign_forms
from .measure import Timing, clock_of, require, sqnr, thread_count, time_in_turn
from .report import to_json

CHANNELS = (32, 48, 60, 64, 128, 180, 256)
BEST = "best"
# What holds PyTorch back to an instruction set; it has no portable form of its kernels.
_PYTORCH_TOO = {"avx2": {"DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}


@dataclass(frozen=True)
class FormTime:
    """Seconds of one form of the layer, and its SQNR against the definition in float64, dB."""

    name: str
    timing: Timing
    sqnr: float


@dataclass(frozen=True)
class LayerTimes:
    """One layer ``channels -> channels``; ``kernel`` is what runs its packed form."""

    channels: int
    kernel: str
    forms: tuple[FormTime, ...]

    def ratio(self, name: str, base: str = PACKED_IN_PLACE) -> float:
        """How many times as fast as the form ``name`` the form ``base`` is, by medians."""
        medians = {form.name: form.timing.shown.median for form in self.forms}
        return medians[name] / medians[base]


@dataclass(frozen=True)
class IsaTimes:
    """All layers by one instruction set, measured in one process; ``isa`` is ``"best"`` or a name."""

    isa: str
    machine: Machine
    layers: tuple[LayerTimes, ...]


@dataclass(frozen=True)
class KernelReport:
    """Times of layers in all forms; ``print`` shows them and how many times as fast the packed form in place is."""

    size: tuple[int, int]
    threads: int
    rounds: int
    clock: str
    notes: tuple[str, ...]
    isas: tuple[IsaTimes, ...]

    def __str__(self) -> str:
        tables = [self._table(times) for times in self.isas]
        return "\n\n".join([*tables, *(f"note: {note}" for note in self.notes)])

    def _table(self, times: IsaTimes) -> str:
        pixels = self.size[0] * self.size[1]
        title = (
            f"binary layer, 3 x 3, local mean 3, a scale a channel, bias, RPReLU, skip, on {self.size[0]} x "
            f"{self.size[1]} pixels; {self.threads} thread(s); {self.clock}, {self.rounds} interleaved rounds\n"
            f"{times.machine}"
        )
        rows = []
        for layer in times.layers:
            for i, form in enumerate(layer.forms):
                shown = form.timing.shown
                rows.append(
                    (
                        str(layer.channels) if i == 0 else "",
                        f"{form.name} ({layer.kernel})" if form.name == PACKED_IN_PLACE else form.name,
                        f"{shown.median * 1e3:.3f}",
                        f"{shown.minimum * 1e3:.3f}",
                        f"{shown.median * 1e9 / pixels:.1f}",
                        f"{form.sqnr:.0f}",
                        f"{layer.ratio(form.name):.2f}x",
                    )
                )
        columns = ("channels", "form", "median ms", "least ms", "ns a pixel", "SQNR dB", "packed in place is faster")
        return render(title, columns, rows, right=(0, 2, 3, 4, 5, 6))

    def to_json(self) -> str:
        """The figures as JSON; seconds."""
        return to_json(self)


def measure_kernels(
    *,
    channels: Sequence[int] = CHANNELS,
    size: tuple[int, int] = (180, 320),
    isas: Sequence[str] = (BEST,),
    rounds: int = 15,
    threads: int = 1,
    with_compiled: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> KernelReport:
    """Times one layer in all its forms, in turn, once the output of each has been compared with the definition.

    The float forms have the same parts: convolution, bias, RPReLU, skip, channels-last; the packed one has the local
    mean too. ``int8`` quantises its input to 8 bits a value, and its output is float32 again. bf16 is left out where
    the CPU has no instructions for it. OpenVINO's layer and the packed one beside it take the sign in place of the
    local mean; they are measured where ``openvino`` is installed, by the instruction set in use.

    Args:
        channels: Channel counts, each a layer.
        size: Height and width of the input, pixels; batch 1.
        isas: Instruction sets of the packed form, ``"best"`` for the one in use. A named one is measured in a process
            of its own; avx2 holds PyTorch back too, as on a machine that has no more, portable does not.
        rounds: Timed runs of each form.
        threads: CPU threads.
        with_compiled: Whether to add the forms under torch.compile, and int8; minutes of compiling.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If an output is wrong, or an argument or an instruction set cannot be used.
    """
    for name, values in (("channels", channels), ("size", size), ("rounds", (rounds,)), ("threads", (threads,))):
        if not values or min(values) < 1:
            raise LMBError(f"{name}: {tuple(values)!r} is not allowed. Allowed: whole numbers above 0.")
    notes = []
    missing = compiled.why_not() if with_compiled else "not asked for"
    if missing:
        notes.append(f"compiled forms, and int8 with them, are left out: {missing}")
    bf16 = multiplies_bf16()
    if not bf16:
        notes.append("bf16 is left out: the CPU has no instructions for it")
    if with_compiled and not missing and any(form in _PYTORCH_TOO for form in isas):
        notes.append("avx2: PyTorch is held back to AVX2 too")
    if BEST in isas:
        absent = {openvino_layer.why_not(count): None for count in channels}
        notes += [f"openvino is left out: {reason}" for reason in absent if reason]
    found = []
    for isa in isas:
        job = (isa, tuple(channels), size, rounds, threads, bf16 and isa not in _PYTORCH_TOO, not missing)
        if isa == BEST:
            found.append(_measure(*job, tell=tell))
        else:
            tell(f"{isa}, in a process of its own")
            found.append(in_child(_measure, *job, environment={"LMB_QUANT_ISA": isa, **_PYTORCH_TOO.get(isa, {})}))
    return KernelReport(size, threads, rounds, clock_of(threads), tuple(notes), tuple(found))


def _measure(
    isa: str,
    channels: Iterable[int],
    size: tuple[int, int],
    rounds: int,
    threads: int,
    bf16: bool,
    with_compiled: bool,
    tell: Callable[[str], None] = lambda _: None,
) -> IsaTimes:
    machine = Machine()
    layers = []
    for count in channels:
        tell(f"{count} channels")
        with torch.inference_mode(), torch.random.fork_rng(devices=()), compiled.frozen():
            torch.manual_seed(0)
            openvino = isa == BEST and not openvino_layer.why_not(count)
            layers.append(_measure_layer(count, size, rounds, threads, bf16, with_compiled, openvino))
    return IsaTimes(isa, machine, tuple(layers))


def _measure_layer(
    channels: int, size: tuple[int, int], rounds: int, threads: int, bf16: bool, with_compiled: bool, openvino: bool
) -> LayerTimes:
    layer, x = make_layer(channels), make_input(channels, *size)
    forms: dict[str, Form] = {}
    found: dict[str, float] = {}
    with thread_count(threads):
        forms |= packed_forms(layer, x, threads)
        if openvino:
            forms |= sign_forms(make_layer(channels, window=None), x, threads)
        forms |= float_forms(layer, x, threads, bf16=bf16, with_compiled=with_compiled)
    for name, form in forms.items():
        found[name] = sqnr(form.expected, form.output)
        require(f"{channels} channels: {name}", found[name], form.least_sqnr)
    times = time_in_turn({name: form.competitor for name, form in forms.items()}, rounds)
    kernel = PackedBinaryConv2d.from_binary(layer).kernel
    return LayerTimes(channels, kernel, tuple(FormTime(name, times[name], found[name]) for name in forms))
