# SPDX-License-Identifier: Apache-2.0
"""Times the trained networks of cells in turn; runs in a process of its own."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.bench import compiled
from lmb_quant.bench.measure import Competitor, clock_of, sqnr, thread_count, time_in_turn
from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.plan.schema import FLOAT
from lmb_quant.bench.suite.plan.schemes import BF16, ENGINE_INT8
from lmb_quant.bench.suite.store import COMPILED, EAGER, ENGINE, PACKED, Store
from lmb_quant.errors import LMBError, named_reason
from lmb_quant.machine import Machine, multiplies_bf16
from lmb_quant.modules import BinaryConv2d
from lmb_quant.packing import convert
from lmb_quant.stages import forward, why_not

from .calibration import calibration_images
from .hosts import UnsupportedError
from .trained import cell_form, trained_network

LEAST_SQNR = 40.0
"""dB that a form's output must have against its definition: rounding may turn a bit at a threshold, and later ones."""
_LEAST_INT8 = 25.0
"""The same where the engine multiplies in 8 bits, against float32."""


@dataclass(frozen=True)
class _Form:
    """Something that is timed, and what computes the same by definition."""

    run: Callable[[Tensor], Tensor]
    expected: Callable[[Tensor], Tensor]
    least: float = LEAST_SQNR


def time_cells(
    cells: Sequence[Cell], store: Store, size: tuple[int, int], rounds: int, threads: int = 1
) -> list[dict[str, Any]]:
    """Times networks, batch 1, in turn, once their outputs have been compared.

    Args:
        cells: All of one SR factor; each is trained.
        store: Where they are.
        size: Height and width of the LR image, pixels.
        rounds: Timed runs of each form.
        threads: CPU threads. CPU time is shown of one, wall time of several.

    Returns:
        For each cell its ``forms`` by name (``median`` and ``minimum`` seconds, ``wall`` median, ``sqnr`` in dB
        or None where outputs are equal); ``float``: the medians of its network's float forms in the same run;
        ``reasons``, why others are not there; ``rounds``, ``size``, ``clock``,
        ``machine``, ``measured``.
    """
    reasons: list[list[str]] = [[] for _ in cells]
    found: dict[tuple[int, str], float] = {}
    competitors: dict[tuple[int, str], Competitor] = {}
    quiet = redirect_stdout(io.StringIO())  # BasicSR prints under which name it finds an architecture
    with torch.inference_mode(), thread_count(threads), compiled.frozen(), quiet:
        image = _photograph(cells[0], size)
        for i, cell in enumerate(cells):
            for name, form in _forms(cell, store, reasons[i]):
                try:
                    found[i, name] = sqnr(form.expected(image), form.run(image))
                except Exception as error:  # a compiler's failure is a finding about this form, not the end of all
                    reasons[i].append(f"{name}: {named_reason(error)}")
                    continue
                if not found[i, name] >= form.least:
                    reasons[i].append(f"{name}: its output is wrong: {found[i, name]:.1f} dB SQNR")
                    continue
                run = cast(Callable[[], object], lambda run=form.run: run(image))
                competitors[i, name] = Competitor(run, partial(_rest, threads), threads)
        times = time_in_turn(competitors, rounds)
    forms = [
        {
            name: {**asdict(timing.shown), "wall": timing.wall.median, "sqnr": _finite(found[index, name])}
            for (index, name), timing in times.items()
            if index == i
        }
        for i in range(len(cells))
    ]
    floats = {
        cell.network: {name: form["median"] for name, form in own.items()}
        for cell, own in zip(cells, forms, strict=True)
        if cell.method == FLOAT
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    settings = {"rounds": rounds, "size": list(size), "threads": threads, "clock": clock_of(threads)}
    common = {"format": 1, **settings, "machine": asdict(Machine()), "measured": now}
    return [
        {"cell": cell.name, "forms": own, "float": floats.get(cell.network, {}), "reasons": why, **common}
        for cell, own, why in zip(cells, forms, reasons, strict=True)
    ]


def _forms(cell: Cell, store: Store, reasons: list[str]) -> Iterator[tuple[str, _Form]]:
    """The forms in which a cell's network is used; what is not there gets a reason."""
    network = trained_network(cell, store).requires_grad_(False)
    is_binary = any(isinstance(module, BinaryConv2d) for module in network.modules())
    if cell.host is not None and cell.host.scheme == ENGINE_INT8:
        try:
            yield PACKED if is_binary else ENGINE, _Form(cell_form(cell, network).network, network, _LEAST_INT8)
        except UnsupportedError as error:
            reasons.append(str(error))
        return
    if is_binary:
        try:
            packed = convert(network)
            yield PACKED, _Form(lambda x: forward(packed, x), network)
        except LMBError as error:
            reasons.append(f"no packed form: {error}")
        return
    no_compiler = compiled.why_not()
    if no_compiler:
        reasons.append(f"{COMPILED}: {no_compiler}")
    if cell.host is None:
        yield from _both(network, network, no_compiler)
        if not why_not(network):
            yield ENGINE, _Form(lambda x: forward(network, x), network)
        return
    if cell.host.scheme == BF16 and not multiplies_bf16():
        reasons.append("the CPU has no instructions for bf16")
        return
    try:
        form = cell_form(cell, network)
    except UnsupportedError as error:
        reasons.append(str(error))
        return
    if form.int8_layers:  # run as it is, the graph computes in float and only rounds as int8 does
        if not no_compiler:
            yield COMPILED, _Form(compiled.compiled(form.to_compile), form.network)
        return
    yield from _both(form.to_compile, form.network, no_compiler)


def _rest(threads: int) -> None:
    """With several threads, OpenMP's of the form before still wait in a loop, on a core that the next one needs."""
    if threads > 1:
        time.sleep(0.02)


def _photograph(cell: Cell, size: tuple[int, int]) -> Tensor:
    """A patch of a training image, resized: ``(1, 3, H, W)``, channels-last."""
    (patch,) = calibration_images(cell.train, cell.upscale, 1, min(size))
    image = F.interpolate(patch, size, mode="bicubic", align_corners=False).clamp(0, 1)
    return image.contiguous(memory_format=torch.channels_last)


def _both(module: nn.Module, expected: Callable[[Tensor], Tensor], no_compiler: str) -> Iterator[tuple[str, _Form]]:
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    yield EAGER, _Form(module, expected)
    if not no_compiler:
        yield COMPILED, _Form(compiled.compiled(module), expected)


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
