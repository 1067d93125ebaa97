# SPDX-License-Identifier: Apache-2.0
"""Latency of a suite's networks on this machine: one measurement for each network, method and SR factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lmb_quant.bench.child import in_child
from lmb_quant.bench.report import Machine

from .cells import Cell, content_hash
from .figures import HEIGHT, WIDTH
from .schema import FLOAT
from .store import Store
from .trained import trained_weights

EAGER, COMPILED, PACKED = "eager", "compiled", "packed"
"""Forms of a network: PyTorch as it is, torch.compile with frozen weights, and this project's packed layers."""
ROUNDS = 9
"""Timed runs of each form, all forms in turn."""


def latency_key(cell: Cell) -> str:
    """Hash of what decides how fast a cell's network is; seeds and training do not."""
    content = cell.model_dump(include={"network_g", "upscale", "host", "binarizers", "torch"})
    return content_hash({**content, "size": image_size(cell.upscale)})


def image_size(upscale: int) -> tuple[int, int]:
    """Height and width of the LR image behind one of 720 x 1280 pixels: 180 x 320 at x4."""
    return round(HEIGHT / upscale), round(WIDTH / upscale)


def this_machine() -> dict[str, Any]:
    """What the figures hold for: CPU and instruction sets, kernel of packed layers, versions."""
    return {**asdict(Machine()), "lmb_quant": _version("lmb-quant"), "torchao": _version("torchao")}


def machine_key(machine: dict[str, Any]) -> str:
    """Hash of :func:`this_machine`."""
    return content_hash(machine)


def to_measure(cells: Sequence[Cell], selected: Sequence[Cell], store: Store) -> list[list[Cell]]:
    """Groups of cells for one interleaved run each: one group an SR factor, seeds sharing one measurement.

    Args:
        cells: All cells of the suite.
        selected: Those whose latency is wanted.
        store: Where they are.

    Returns:
        For each SR factor with something to measure: the cells, and the float ones of the same networks.
    """
    machine = machine_key(this_machine())
    missing = {
        latency_key(cell): cell
        for cell in reversed([cell for cell in selected if _is_there(cell, store)])
        if store.latency(machine, latency_key(cell)) is None
    }
    groups = []
    for upscale in sorted({cell.upscale for cell in missing.values()}):
        wanted = [cell for cell in missing.values() if cell.upscale == upscale]
        networks = {cell.network for cell in wanted}
        floats = [
            cell
            for cell in reversed(cells)
            if cell.method == FLOAT and cell.network in networks and cell.upscale == upscale and _is_there(cell, store)
        ]
        group = {latency_key(cell): cell for cell in (*wanted, *floats)}
        groups.append(sorted(group.values(), key=lambda cell: (cell.network, cell.method != FLOAT)))
    return groups


def measure(cells: Sequence[Cell], selected: Sequence[Cell], store: Store, tell: Callable[[str], None]) -> None:
    """Measures what was not yet measured on this machine, in a process of its own.

    Args:
        cells: All cells of the suite.
        selected: Those whose latency is wanted; one that is not finished is left out.
        store: Where they are, and where the figures go.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If the process dies.
    """
    if not to_measure(cells, selected, store):
        return
    with store.latency_lock():
        for group in to_measure(cells, selected, store):
            tell(f"latency at x{group[0].upscale}: {len(group)} networks are compiled, compared and timed in turn")
            from .timing import time_cells

            records = in_child(
                time_cells,
                [cell.model_dump_json() for cell in group],
                str(store.root),
                image_size(group[0].upscale),
                ROUNDS,
                environment={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
            machine = this_machine()
            for cell, record in zip(group, records, strict=True):
                store.write_latency(machine_key(machine), latency_key(cell), {**record, "machine": machine})


def _is_there(cell: Cell, store: Store) -> bool:
    """Whether a network was trained and can be read."""
    if cell.network_g is None or not trained_weights(store.work(cell)).exists():
        return False
    result = store.result(cell)
    return result is not None and "unsupported" not in result


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
