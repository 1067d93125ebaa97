# SPDX-License-Identifier: Apache-2.0
"""How fast a suite's networks are on this machine, without training one: the latencies of a front in minutes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmb_quant.bench.child import in_child, with_threads
from lmb_quant.bench.suite.measure.timing import time_cells
from lmb_quant.bench.suite.plan.cell import Cell, lr_size
from lmb_quant.bench.suite.plan.cells import make_cells, select
from lmb_quant.bench.suite.plan.data import find_data
from lmb_quant.bench.suite.plan.schema import Data, Suite
from lmb_quant.bench.suite.store import Store
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.networks import build
from lmb_quant.machine import Machine

from .report import FormTime, FrontReport


def measure_front(
    suite: str | Path = "front",
    *,
    only: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    rounds: int = 9,
    threads: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> FrontReport:
    """Times a suite's networks with random weights, in the forms in which they are used, in turn.

    Weights do not decide how fast a network is. Each output is compared with its definition first.

    Args:
        suite: Name of a shipped suite, or path; its first SR factor and seed are taken.
        only: Globs for the names of cells, or for parts of them; none selects all.
        size: Height and width of the LR image, pixels; by default that of a result of 720 x 1280.
        rounds: Timed runs of each form.
        threads: CPU threads; with several it is wall time that counts.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If the suite is wrong, or a glob matches nothing that has a network.
    """
    loaded = Suite.load(suite)
    photographs = Data(source="photographs", train=["photographs"], test=["photographs"])
    plain = loaded.model_copy(update={"data": photographs})
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        made = make_cells(plain, find_data(plain, None, store.root))
        cells = _distinct([cell for glob in only or (None,) for cell in select(made, glob)], loaded.upscale[0])
        if not cells:
            chosen = " ".join(f"--only {glob}" for glob in only)
            raise LMBError(f"{plain.place}: {chosen}: no network of SR factor {loaded.upscale[0]}, which is timed.")
        tell(f"{len(cells)} networks are made")
        for cell in cells:
            _make_weights(cell, store)
        tell(f"{len(cells)} networks are compiled, compared and timed in turn")
        size = size or lr_size(loaded.upscale[0])
        records = in_child(time_cells, cells, store, size, rounds, threads, environment=with_threads(threads))
    return FrontReport(
        suite=loaded.name,
        upscale=loaded.upscale[0],
        size=size,
        rounds=rounds,
        threads=threads,
        machine=Machine(),
        forms=tuple(sorted(_forms(cells, records), key=lambda form: form.median)),
        notes=tuple(
            f"{cell.network}, {cell.method}: {reason}"
            for cell, record in zip(cells, records, strict=True)
            for reason in record["reasons"]
        ),
    )


def _distinct(cells: Sequence[Cell], upscale: int) -> list[Cell]:
    """Cells of one SR factor with a network, one for each that is as fast."""
    return list({c.latency_key: c for c in reversed(cells) if c.network_g and c.upscale == upscale}.values())[::-1]


def _make_weights(cell: Cell, store: Store) -> None:
    torch.manual_seed(0)
    network = build(dict(cell.network_g or {}))
    last = [p for p in network.parameters() if p.ndim == 4][-1]
    nn.init.normal_(last, std=0.05)  # some start at zero: what the body computes would not reach the output
    path = store.weights(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": network.state_dict()}, path)


def _forms(cells: Sequence[Cell], records: Sequence[dict[str, Any]]) -> list[FormTime]:
    return [
        FormTime(network=cell.network, method=cell.method, form=name, median=time["median"], minimum=time["minimum"])
        for cell, record in zip(cells, records, strict=True)
        for name, time in record["forms"].items()
    ]
