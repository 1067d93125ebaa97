# SPDX-License-Identifier: Apache-2.0
"""Time, memory and file size of a whole network: packed against float, bf16 and int8."""

from __future__ import annotations

import copy
import functools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lmb_quant.counting import summary
from lmb_quant.errors import LMBError
from lmb_quant.machine import Machine, multiplies_bf16
from lmb_quant.modules import packed_convs, set_real_arithmetic
from lmb_quant.serialize import save
from lmb_quant.stages import forward, why_not
from lmb_quant.table import render

from . import compiled, memory
from .measure import CPU_TIME, WALL_TIME, Competitor, Timing, require, sqnr, thread_count, time_in_turn
from .networks import Networks, make_image, make_networks, read_networks
from .report import to_json

PACKED, FLOAT, INT8, BF16, COMPILED = "packed", "float", "int8, PT2E", "bf16", ", compiled"
BY_LAYER = "packed, layer by layer"
PACKED_INT8 = "packed, real parts int8"
_LEAST_SQNR = {
    PACKED: 30,
    PACKED_INT8: 25,
    BY_LAYER: 30,
    FLOAT: 80,
}  # rounding may turn a bit at its threshold, and bits of later layers with it


@dataclass(frozen=True)
class NetworkTime:
    """Seconds of one form of the network; SQNR of a packed form against its definition, else against float, dB."""

    name: str
    threads: int
    timing: Timing
    sqnr: float


@dataclass(frozen=True)
class Bytes:
    """Of the packed network, and of the same network in float32."""

    packed: int
    floating: int

    def __str__(self) -> str:
        ratio = self.floating / self.packed if self.packed else math.inf
        return f"packed {self.packed:,} bytes, float {self.floating:,} bytes: 1/{ratio:.2f}, {1 / ratio:.3f}x"


@dataclass(frozen=True)
class SpeedReport:
    """Figures of a network in all forms; ``print`` shows them with their ratios to the packed form.

    ``peak_memory`` is what reading the network from its file and running it once takes beside the interpreter, with
    one thread; None where the system does not tell. ``binary_layers`` is what the binary layers take in their file:
    bits, scales, biases and parameters of the activation functions; in float, weights and biases.
    """

    network: str | None
    arch: str
    recipe: str
    arguments: dict[str, Any]
    size: tuple[int, int]
    rounds: int
    machine: Machine
    kernels: tuple[str, ...]
    notes: tuple[str, ...]
    forms: tuple[NetworkTime, ...]
    binary_layers: Bytes
    file: Bytes
    peak_memory: Bytes | None

    def ratio(self, name: str, threads: int = 1) -> float:
        """How many times as fast as a form the packed one is, both with so many threads, by medians."""
        return self._form(name, threads).shown.median / self._form(PACKED, threads).shown.median

    def scaling(self, name: str, threads: int) -> float:
        """How many times as fast as with one thread a form is, by medians of wall time."""
        return self._form(name, 1).wall.median / self._form(name, threads).wall.median

    def _form(self, name: str, threads: int) -> Timing:
        return next(form.timing for form in self.forms if (form.name, form.threads) == (name, threads))

    def __str__(self) -> str:
        arguments = ", ".join(f"{name} {value}" for name, value in self.arguments.items())
        height, width = self.size
        name = "" if self.network is None else f"{self.network}: "
        title = (
            f"{name}{self.arch} ({arguments}), recipe {self.recipe}, on {height} x {width} pixels; one thread: "
            f"{CPU_TIME}, several: {WALL_TIME}; {self.rounds} interleaved rounds\n"
            f"{self.machine}; body by {', '.join(self.kernels)}"
        )
        rows = [
            (
                form.name,
                str(form.threads),
                f"{form.timing.shown.median * 1e3:.1f}",
                f"{form.timing.shown.minimum * 1e3:.1f}",
                f"{form.timing.wall.median * 1e3:.1f}",
                f"{form.sqnr:.0f}",
                f"{self.ratio(form.name, form.threads):.2f}x",
                "" if form.threads == 1 else f"{self.scaling(form.name, form.threads):.2f}x",
            )
            for form in self.forms
        ]
        columns = (
            "form", "threads", "median ms", "least ms", "wall ms", "SQNR dB", "packed is faster", "threads gain"
        )  # fmt: skip
        lines = [
            render(title, columns, rows, right=range(1, 8)),
            f"binary layers: {self.binary_layers}",
            f"whole file:    {self.file}",
            *([f"peak memory:   {self.peak_memory}"] if self.peak_memory else []),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The figures as JSON; seconds and bytes."""
        return to_json(self)


def measure_speed(
    *,
    network: str | None = None,
    arch: str | None = None,
    blocks: int | None = None,
    num_feat: int | None = None,
    recipe: str | None = None,
    size: tuple[int, int] = (180, 320),
    rounds: int = 9,
    threads: int = 2,
    with_compiled: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> SpeedReport:
    """Times a network in all its forms, in turn, once their outputs have been compared.

    Packed, in one call of the engine, the same with its real pointwise convolutions in 8 bits, and layer by layer;
    float, which is the same network with ReLU in place of binary units; packed and float under torch.compile too;
    torchao's int8, static and compiled; bf16 where the CPU has instructions for it. All channels-last.

    Args:
        network: A packed network, by the name under which it comes with the package or by its file. Its float form has
            random parameters. By default one is made from the four arguments below, which go without ``network``.
        arch: Short name of an architecture, for SR factor 4; by default ``srresnet``.
        blocks: How many parts the body has, such as residual blocks; by default as many as the architecture's own.
        num_feat: Channels of the body; by default 64.
        recipe: Name or file of the recipe of the packed form; by default ``lmb``.
        size: Height and width of the LR image, pixels; batch 1.
        rounds: Timed runs of each form.
        threads: CPU threads, measured beside one thread.
        with_compiled: Whether to add the compiled forms, and int8; minutes of compiling.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If an output is wrong, or an argument cannot be used.
    """
    for name, value in (("size", min(size)), ("rounds", rounds), ("threads", threads)):
        if value < 1:
            raise LMBError(f"{name}: {value!r} is not allowed. Allowed: a whole number above 0.")
    made_of = {"arch": arch, "blocks": blocks, "num_feat": num_feat, "recipe": recipe}
    for name, word in made_of.items():
        if network is not None and word is not None:
            raise LMBError(f"{name}: {word!r} is not allowed beside network. Allowed: one of the two.")
    notes: list[str] = []
    missing = compiled.why_not() if with_compiled else "not asked for"
    if missing:
        notes.append(f"compiled forms, and int8 with them, are left out: {missing}")
    counts = (1,) if threads == 1 else (1, threads)
    with torch.inference_mode(), torch.random.fork_rng(devices=()), compiled.frozen():
        torch.manual_seed(0)
        if network is None:
            networks = make_networks(arch or "srresnet", blocks, num_feat or 64, recipe or "lmb")
        else:
            networks = read_networks(network)
        image = make_image(*size)
        runs = dict(_forms(networks, image, not missing, notes))
        found, competitors = {}, {}
        for count in counts:
            for name, (run, given, expected) in runs.items():
                tell(f"{name}, {count} thread(s): compared")
                with thread_count(count):
                    found[name, count] = sqnr(expected, run(given))
                require(name, found[name, count], _LEAST_SQNR.get(name.removesuffix(COMPILED), -math.inf))
                competitors[name, count] = Competitor(lambda run=run, given=given: run(given), threads=count)  # type: ignore[misc]
        tell("timed")
        times = time_in_turn(competitors, rounds)
    tell("memory and files")
    file, peak = _file_and_peak(networks, size)
    if peak is None:
        notes.append("peak memory is not measured: the system does not tell it")
    layers = [layer for layer in summary(networks.packed, (1, 3, 8, 8)).layers if layer.bits == 1]
    return SpeedReport(
        network=network,
        arch=networks.name,
        recipe=networks.recipe,
        arguments=networks.arguments,
        size=size,
        rounds=rounds,
        machine=Machine(),
        kernels=tuple(sorted({layer.kernel for layer in packed_convs(networks.packed)})),
        notes=tuple(notes),
        forms=tuple(NetworkTime(name, count, times[name, count], found[name, count]) for name, count in times),
        binary_layers=Bytes(sum(la.bytes for la in layers), sum(la.float_bytes for la in layers)),
        file=file,
        peak_memory=peak,
    )


_Run = Callable[[Tensor], Tensor]


def _forms(
    networks: Networks, image: Tensor, with_compiled: bool, notes: list[str]
) -> Iterator[tuple[str, tuple[_Run, Tensor, Tensor]]]:
    """Yields each form: its name, what runs it, its input, and what its output must be."""
    of_binary, of_float = networks.binary(image), networks.floating(image)
    yield PACKED, (functools.partial(forward, networks.packed), image, of_binary)
    if not why_not(networks.packed) and set_real_arithmetic(int8_parts := copy.deepcopy(networks.packed), "int8"):
        yield PACKED_INT8, (functools.partial(forward, int8_parts), image, of_binary)
    yield BY_LAYER, (networks.packed, image, of_binary)
    if why_not(networks.packed):
        notes.append(f"packed runs layer by layer, too: {why_not(networks.packed)}")
    yield FLOAT, (networks.floating, image, of_float)
    if with_compiled:
        for name, module, expected in ((PACKED, networks.packed, of_binary), (FLOAT, networks.floating, of_float)):
            yield name + COMPILED, (compiled.compiled(module), image, expected)
    if multiplies_bf16():
        bf16 = copy.deepcopy(networks.floating).bfloat16()
        yield BF16, (bf16, image.bfloat16(), of_float)
        if with_compiled:
            yield BF16 + COMPILED, (compiled.compiled(bf16), image.bfloat16(), of_float)
    else:
        notes.append("bf16 is left out: the CPU has no instructions for it")
    if with_compiled:
        try:
            from lmb_quant.integrations.torchao.int8 import static_int8  # torchao is heavy and optional

            int8 = static_int8(networks.floating, [image])
        except LMBError as error:
            notes.append(f"int8 is left out: {error}")
        else:
            yield INT8 + COMPILED, (compiled.compiled(int8), image, of_float)


def _file_and_peak(networks: Networks, size: tuple[int, int]) -> tuple[Bytes, Bytes | None]:
    with tempfile.TemporaryDirectory() as folder:
        packed, floating = Path(folder, "packed.safetensors"), Path(folder, "float.safetensors")
        if networks.file is None:
            save(networks.packed, packed)
        else:
            packed.write_bytes(networks.file)
        save_file({name: t.contiguous() for name, t in networks.floating.state_dict().items()}, floating)
        file = Bytes(packed.stat().st_size, floating.stat().st_size)
        if not memory.can_measure():
            return file, None
        float_peak = memory.peak_of_float(floating, networks.name, networks.arguments, size, 1)
        return file, Bytes(memory.peak_of_packed(packed, size, 1), float_peak)
