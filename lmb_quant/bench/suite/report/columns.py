# SPDX-License-Identifier: Apache-2.0
"""The columns of the table, the same in Markdown, CSV and HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lmb_quant.bench.suite.store import COMPILED, EAGER, ENGINE, PACKED

from .rows import Findings, Row

PSNR = " PSNR, dB"
"""What follows a test set's name in the title of its column."""

_MACS = ("float", "int8", "binary")
Value = str | float | None


@dataclass(frozen=True)
class Column:
    """A column: title with unit, the plain value (for CSV and sorting), and the text to show; details are for CSV."""

    title: str
    value: Callable[[Row], Value]
    text: Callable[[Row], str]
    is_detail: bool = False

    @property
    def kind(self) -> str:
        """``network``, ``method`` or ``number``; the last is aligned to the right."""
        return self.title if self.title in ("network", "method") else "number"


def make_columns(findings: Findings) -> list[Column]:
    """Lists the columns of a report."""
    return [
        Column("network", lambda row: row.network, lambda row: row.network if row.is_network else ""),
        Column("method", lambda row: row.method, lambda row: row.method),
        Column("upscale", lambda row: row.upscale, lambda row: f"x{row.upscale}"),
        Column("seeds", lambda row: len(row.results), lambda row: str(len(row.results))),
        *(column for images in findings.sets for column in _scores(images)),
        _cost(findings, "parameters, K", "params", 1e3, 1),
        _cost(findings, "OPs, G", "ops", 1e9, 3),
        *(_detail(f"{kind} MACs, G", partial(_giga, name=f"{kind}_macs")) for kind in _MACS),
        _cost(findings, "additions, G", "additions", 1e9, 3),
        _cost(findings, "kB", "bytes", 1e3, 1),
        Column("latency, ms", partial(_milliseconds, form=None), _latency),
        Column("speed-up", lambda row: None if row.latency is None else row.latency.ratio, _speed_up),
        *(_detail(f"{form}, ms", partial(_milliseconds, form=form)) for form in (EAGER, COMPILED, ENGINE, PACKED)),
        _time("training, min", "training_seconds", 1 / 60, 1),
        _time("step, ms", "step_seconds", 1e3, 1),
    ]


def table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Titles and texts; columns that are empty in every row are left out."""
    columns = shown_columns(findings)
    return [column.title for column in columns], [[c.text(row) for c in columns] for row in findings.rows]


def shown_columns(findings: Findings) -> list[Column]:
    """The columns that have a value in some row; the network's name only where there are several."""
    columns = make_columns(findings)[0 if len(findings.networks) > 1 else 1 :]
    shown = [column for column in columns if not column.is_detail]
    return [column for column in shown if any(column.value(row) is not None for row in findings.rows)]


def _scores(images: str) -> list[Column]:
    def column(title: str, metric: str, digits: int) -> Column:
        return Column(
            f"{images}{title}",
            lambda row: row.score(images, metric).mean,
            lambda row: row.score(images, metric).text(digits),
        )

    return [column(PSNR, "psnr", 2), column(" SSIM", "ssim", 4)]


def _cost(findings: Findings, title: str, name: str, unit: float, digits: int) -> Column:
    """A cost with its ratio to the same network in float."""

    def value(row: Row) -> float | None:
        figure = row.figure(name)
        return None if figure is None else figure / unit

    def text(row: Row) -> str:
        own, base = value(row), findings.float_row(row)
        if own is None:
            return ""
        reference = None if base is None or base is row else value(base)
        ratio = f" ({reference / own:.1f}x less)" if reference and own and reference / own >= 1.05 else ""
        mark = "*" if name == "bytes" and row.figure("bytes_note") else ""
        return f"{own:.{digits}f}{mark}{ratio}"

    return Column(title, value, text)


def _detail(title: str, value: Callable[[Row], float | None]) -> Column:
    return Column(title, value, lambda row: str(value(row)), is_detail=True)


def _giga(row: Row, name: str) -> float | None:
    return (row.figure(name) or 0) / 1e9 if row.is_network else None


def _milliseconds(row: Row, form: str | None) -> float | None:
    """Of a form, None for the fastest."""
    if row.latency is None:
        return None
    seconds = row.latency.forms.get(form or row.latency.form)
    return None if seconds is None else seconds * 1e3


def _latency(row: Row) -> str:
    return "" if row.latency is None else f"{row.latency.best * 1e3:.1f} {row.latency.form}"


def _speed_up(row: Row) -> str:
    ratio = None if row.latency is None or row.is_float else row.latency.ratio
    return "" if ratio is None else f"{ratio:.2f}x"


def _time(title: str, name: str, unit: float, digits: int) -> Column:
    def value(row: Row) -> float | None:
        seconds = row.time(name)
        return None if seconds is None else seconds * unit

    def text(row: Row) -> str:
        own = value(row)
        return "" if own is None else f"{own:.{digits}f}"

    return Column(title, value, text)


def notes(findings: Findings) -> list[str]:
    """What a reader must know of the figures, a sentence each."""
    manifest: dict[str, Any] = findings.manifest
    sizes = {
        row.upscale: row.figure("input_size")[-2:] for row in findings.rows if row.is_network
    }  # the same for all networks
    inputs = ", ".join(f"{width} x {height} pixels at x{upscale}" for upscale, (height, width) in sorted(sizes.items()))
    found = [
        f"PSNR and SSIM on Y (BT.601) of the 8-bit image, upscale border pixels cropped; mean ± sample standard "
        f"deviation over seeds {', '.join(map(str, manifest['suite']['seeds']))}.",
        "OPs = float MACs + binary MACs / 64 + int8 MACs / 8; parameters = float + binary / 32, and bits / 32 for "
        f"weights of hosts' schemes; weights of convolutions only; for an LR image of {inputs}. MACs of bf16 and of "
        "weights that are widened at run time count as float. Additions are those of local means, beside the OPs.",
        "kB: the file that save() writes, 1-bit weights packed; of float networks and hosts' schemes a safetensors "
        "file of all that they need to run.",
        "Training: mean time of a step, loading of images included, times the steps; validation is not in it. A "
        "host's scheme that needs no training has the float network's.",
    ]
    found += _latency_notes(findings)
    if any(_activation_bits(row) == 7 for row in findings.rows):
        found.append("int8 activations have 7 bits here: without VNNI instructions sums of 8-bit products overflow.")
    stored: dict[str, list[str]] = {}
    for row in findings.rows:
        if row.is_network and row.figure("storage_note"):
            stored.setdefault(row.figure("storage_note"), []).append(findings.label(row))
    found += [f"{', '.join(labels)}: {note}." for note, labels in stored.items()]
    computed = sorted({row.method for row in findings.rows if row.is_network and row.figure("bytes_note")})
    if computed:
        found.append(f"* computed, because no packed file of it can be written: {', '.join(computed)}.")
    return found


def _activation_bits(row: Row) -> int | None:
    host = row.results[0].get("cell", {}).get("host")
    return host and host["activation_bits"]


def _latency_notes(findings: Findings) -> list[str]:
    timings = [row.timing for row in findings.rows if row.timing is not None]
    if not timings:
        return []
    machine = timings[0]["machine"]
    found = [
        f"Latency: batch 1, one thread, the same LR image; median CPU time of {timings[0]['rounds']} runs, networks in "
        f"turn, on {machine['cpu']}, PyTorch {machine['pytorch']}. The fastest form: eager PyTorch, compiled "
        "(torch.compile with frozen weights), or packed (this project's 1-bit layers). Speed-up: against the fastest "
        "form of the same network in float.",
    ]
    reasons: dict[str, list[str]] = {}
    for row in findings.rows:
        for reason in (row.timing or {}).get("reasons", ()):
            reasons.setdefault(reason, []).append(findings.label(row))
    return found + [f"Not timed: {', '.join(labels)}: {reason.rstrip('.')}." for reason, labels in reasons.items()]
