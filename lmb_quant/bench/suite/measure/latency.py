# SPDX-License-Identifier: Apache-2.0
"""Latency of a suite's networks on this machine: one measurement for each network, method and SR factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmb_quant.bench.child import ONE_THREAD, in_child
from lmb_quant.bench.suite.environment import machine_key
from lmb_quant.bench.suite.plan.cell import Cell, lr_size
from lmb_quant.bench.suite.plan.schema import FLOAT
from lmb_quant.bench.suite.store import Store

from .timing import time_cells

ROUNDS = 9
"""Timed runs of each form, all forms in turn."""


def to_measure(cells: Sequence[Cell], selected: Sequence[Cell], store: Store) -> list[list[Cell]]:
    """Groups of cells for one interleaved run each: one group an SR factor, seeds sharing one measurement.

    Args:
        cells: All cells of the suite.
        selected: Those whose latency is wanted.
        store: Where they are.

    Returns:
        For each SR factor with something to measure: the cells, and the float ones of the same networks.
    """
    machine = machine_key()
    missing = {
        cell.latency_key: cell
        for cell in reversed([cell for cell in selected if _is_there(cell, store)])
        if store.latency(machine, cell.latency_key) is None
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
        group = {cell.latency_key: cell for cell in (*wanted, *floats)}
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
            size = lr_size(group[0].upscale)
            records = in_child(time_cells, group, store, size, ROUNDS, environment=ONE_THREAD)
            for cell, record in zip(group, records, strict=True):
                store.write_latency(machine_key(), cell.latency_key, record)


def _is_there(cell: Cell, store: Store) -> bool:
    """Whether a network was trained and can be read."""
    if cell.network_g is None or not store.weights(cell).exists():
        return False
    result = store.result(cell)
    return result is not None and "unsupported" not in result
