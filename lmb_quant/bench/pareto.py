# SPDX-License-Identifier: Apache-2.0
"""What to pick at a cost: Pareto fronts, and the best of each kind that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Something to pick: its name, its kind, what it costs and what it brings."""

    label: str
    kind: str
    cost: float
    gain: float


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, gain) than which none is better in one and at least equal in the other."""
    best, front = float("-inf"), []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            front.append(i)
    return front


def front_of(choices: Iterable[Choice]) -> list[Choice]:
    """The choices on their Pareto front, the cheapest first."""
    all_choices = list(choices)
    return [all_choices[i] for i in pareto_front([(choice.cost, choice.gain) for choice in all_choices])]


def best_at(choices: Iterable[Choice], limit: float, kind: str | None = None) -> Choice | None:
    """The choice that brings most at a cost of at most ``limit``, of one kind or of all; None if there is none."""
    fitting = (choice for choice in choices if choice.cost <= limit and kind in (None, choice.kind))
    return max(fitting, key=lambda choice: choice.gain, default=None)
