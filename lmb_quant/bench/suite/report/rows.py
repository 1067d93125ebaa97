# SPDX-License-Identifier: Apache-2.0
"""What a report shows: a row for each network, method and SR factor, over all its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lmb_quant.bench.suite.environment import machine_key
from lmb_quant.bench.suite.plan.schema import BICUBIC, FLOAT
from lmb_quant.bench.suite.store import Store
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.machine import in_words


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a figure over seeds; the latter is None for a single seed."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and spread of values, at least one; PSNR of equal images is infinite, and has no spread."""
        has_spread = len(values) > 1 and all(map(math.isfinite, values))
        return cls(statistics.mean(values), statistics.stdev(values) if has_spread else None)

    def text(self, digits: int) -> str:
        """``28.31 ± 0.02``."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True)
class Latency:
    """Median seconds of each form of a network that was timed, at least one, and of the float network's forms."""

    forms: dict[str, float]
    of_float: dict[str, float]

    @property
    def form(self) -> str:
        """The fastest form: ``eager``, ``compiled`` or ``packed``."""
        return min(self.forms, key=lambda name: self.forms[name])

    @property
    def best(self) -> float:
        """Seconds of the fastest form."""
        return self.forms[self.form]

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the fastest form of the float network, in the same run."""
        return min(self.of_float.values()) / self.best if self.of_float else None


@dataclass(frozen=True)
class Row:
    """One network under one method at one SR factor; ``results`` are its finished cells, at least one.

    ``timing`` is what was measured of its latency, None where nothing was.
    """

    network: str
    method: str
    upscale: int
    keys: tuple[str, ...]
    results: tuple[dict[str, Any], ...]
    timing: dict[str, Any] | None = None

    @property
    def latency(self) -> Latency | None:
        """How fast it is; None where no form could be timed."""
        forms = {name: form["median"] for name, form in (self.timing or {}).get("forms", {}).items()}
        return Latency(forms, self.timing["float"]) if self.timing and forms else None

    @property
    def is_network(self) -> bool:
        """Whether a network is behind it; bicubic upscaling has none."""
        return self.method != BICUBIC

    @property
    def is_float(self) -> bool:
        """Whether it is a network's float form."""
        return self.method == FLOAT

    def score(self, images: str, metric: str) -> Spread:
        """``psnr`` or ``ssim`` on a test set."""
        return Spread.of([result["scores"][images][metric] for result in self.results])

    def figure(self, name: str) -> Any:
        """A figure of ``measure.figures.count``, the same for all seeds; None if there is none."""
        return self.results[0]["figures"].get(name) if self.is_network else None

    def time(self, name: str) -> float | None:
        """``training_seconds`` or ``step_seconds``, mean over seeds; None where it was not measured."""
        values = [result[name] for result in self.results if result.get(name) is not None]
        return statistics.mean(values) if values else None

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Steps and PSNR in dB of each validation, mean over seeds."""
        runs = [{entry["iter"]: entry["psnr"] for entry in result.get("curve", [])} for result in self.results]
        return [(step, statistics.mean(run[step] for run in runs)) for step in runs[0] if all(step in r for r in runs)]


@dataclass(frozen=True)
class Findings:
    """All that a report is made of."""

    name: str
    manifest: dict[str, Any]
    rows: tuple[Row, ...]
    unfinished: tuple[tuple[str, str], ...]
    unsupported: tuple[tuple[str, str], ...]
    store: Store

    @cached_property
    def sets(self) -> list[str]:
        """Names of the test sets."""
        return [images["name"] for images in self.manifest["data"]["test"]]

    @property
    def upscales(self) -> list[int]:
        """SR factors that have rows."""
        return sorted({row.upscale for row in self.rows})

    @property
    def networks(self) -> list[str]:
        """Networks that have rows."""
        return list(dict.fromkeys(row.network for row in self.rows if row.is_network))

    def label(self, row: Row) -> str:
        """A row's name: the method, with the network where there are several."""
        return row.method if len(self.networks) < 2 or not row.is_network else f"{row.network} {row.method}"

    def float_row(self, row: Row) -> Row | None:
        """The float form of a row's network."""
        same = (r for r in self.rows if r.is_float and (r.network, r.upscale) == (row.network, row.upscale))
        return next(same, None)

    def environment(self, kind: str) -> list[tuple[str, list[str]]]:
        """``versions`` or ``machine``: each entry with its values in all results, several where they differ."""
        found: dict[str, dict[str, None]] = {}
        for row in self.rows:
            for result in row.results:
                for name, value in in_words(result[kind]).items():
                    found.setdefault(name, {})[value] = None
        return [(name, list(values)) for name, values in found.items()]


def find(root: Path, suite: str | None) -> Findings:
    """Reads a folder of results.

    Args:
        root: The folder.
        suite: Name of the suite; by default the one that was run last.

    Raises:
        LMBError: If it holds no such suite, or the suite has no finished cell.
    """
    store = Store(root)
    names = store.suites()
    if not names:
        raise LMBError(f"{store.root}: there are no results. Run lmb-quant bench run SUITE --output {root} first.")
    if suite is not None and suite not in names:
        raise LMBError(f"{store.root}: {unknown_name('suite', suite, names)}")
    name = suite or names[0]
    manifest = store.suite(name)
    assert manifest is not None
    groups: dict[tuple[str, str, int], list[tuple[str, dict[str, Any]]]] = {}
    machine, timings = _machine(store), {}
    unfinished, unsupported = [], {}
    for cell in manifest["cells"]:
        result = store.result(cell["key"])
        if result is None:
            failure = store.failure(cell["key"])
            label = f"{cell['network']}/{cell['method']}/x{cell['upscale']}/seed{cell['seed']}"
            unfinished.append((label, "not run" if failure is None else f"failed: {failure['error']}"))
            continue
        if "unsupported" in result:
            unsupported[f"{cell['network']}/{cell['method']}/x{cell['upscale']}"] = str(result["unsupported"])
            continue
        group = cell["network"], cell["method"], cell["upscale"]
        groups.setdefault(group, []).append((cell["key"], result))
        if machine is not None and cell.get("latency_key"):
            timings[group] = store.latency(machine, cell["latency_key"])
    if not groups:
        raise LMBError(f"{store.root}: suite {name!r} has no finished cell yet.")
    rows = [
        Row(*group, tuple(key for key, _ in cells), tuple(result for _, result in cells), timings.get(group))
        for group, cells in groups.items()
    ]
    first = manifest["data"]["test"][0]["name"]
    rows.sort(key=lambda row: (row.upscale, -row.score(first, "psnr").mean))
    return Findings(name, manifest, tuple(rows), tuple(unfinished), tuple(unsupported.items()), store)


def _machine(store: Store) -> str | None:
    """This machine if something was measured on it, else the one that measured last."""
    known = store.machines()
    if not known:
        return None
    own = machine_key()
    return own if own in known else known[0]
