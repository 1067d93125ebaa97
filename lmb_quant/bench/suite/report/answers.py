# SPDX-License-Identifier: Apache-2.0
"""What a user asks: at the same latency, and at the same bytes, which network gives the best picture?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmb_quant.bench.pareto import Choice, best_at, front_of

from .rows import Findings, Row

KINDS = ("float", "quantised", "binary")
"""Kinds of networks that are told apart; bf16 and weight-only schemes are ``quantised``."""


@dataclass(frozen=True)
class Cost:
    """Something that a network costs: a figure of a row in units to show, and the words for it."""

    name: str
    unit: str
    digits: int

    def of(self, row: Row) -> float | None:
        """The row's cost; None where it was not measured."""
        if self.name == "latency":
            return None if row.latency is None else row.latency.best * 1e3
        value = row.figure({"file": "bytes", "OPs": "ops"}[self.name])
        return None if value is None else value / {"kB": 1e3, "G": 1e9}[self.unit]


COSTS = (Cost("OPs", "G", 3), Cost("latency", "ms", 1), Cost("file", "kB", 1))


@dataclass(frozen=True)
class Answer:
    """A table: for each step of the Pareto front the best network of all, and of each kind, at that cost or less."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def answers(findings: Findings) -> list[Answer]:
    """Tables for latency and for bytes, for each SR factor; mean PSNR on the first test set decides."""
    return [
        _answer(findings, upscale, cost)
        for upscale in findings.upscales
        for cost in COSTS
        if cost.name != "OPs" and _costed(findings.rows, upscale, cost)
    ]


def _costed(rows: Sequence[Row], upscale: int, cost: Cost) -> list[tuple[float, Row]]:
    found = ((cost.of(row), row) for row in rows if row.upscale == upscale and row.is_network)
    return [(value, row) for value, row in found if value is not None]


def _answer(findings: Findings, upscale: int, cost: Cost) -> Answer:
    first = findings.sets[0]
    choices = [
        Choice(f"{findings.label(row)}, {score.text(2)}", kind_of(row), value, score.mean)
        for value, row in _costed(findings.rows, upscale, cost)
        for score in (row.score(first, "psnr"),)
    ]

    def best(limit: float, kind: str | None = None) -> str:
        found = best_at(choices, limit, kind)
        return "none" if found is None else found.label

    rows = tuple(
        (f"{step.cost:.{cost.digits}f}", best(step.cost), *(best(step.cost, kind) for kind in KINDS))
        for step in front_of(choices)
    )
    title = f"x{upscale}: the best picture for a given {cost.name} (PSNR on {first}, dB)"
    return Answer(title, (f"{cost.unit}, at most", "best", *(f"best {kind}" for kind in KINDS)), rows)


def kind_of(row: Row) -> str:
    """``float``, ``quantised`` or ``binary``."""
    if row.figure("binary_macs"):
        return "binary"
    return "float" if row.is_float else "quantised"
