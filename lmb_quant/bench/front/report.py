# SPDX-License-Identifier: Apache-2.0
"""The latencies of a front with the PSNR of its networks: as text, and as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lmb_quant.bench.measure import clock_of
from lmb_quant.bench.pareto import Choice, best_at, front_of
from lmb_quant.bench.suite.store import ENGINE, PACKED
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import expanded
from lmb_quant.machine import Machine
from lmb_quant.strict_data import validate
from lmb_quant.table import render

BINARY, HOST, REAL = "binary", "by PyTorch and torchao", "real in this engine"
"""Kinds of forms: packed networks; all that PyTorch runs; networks without a binary layer in this project's engine."""

_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Decibels = Annotated[float, Field(allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FormTime(_Model):
    """Seconds of one network in one form: CPU time of one thread, wall time of several.

    ``psnr`` is in dB, by test set; it is empty where no training is known.
    """

    network: str
    method: str
    form: str
    median: _Seconds
    minimum: _Seconds
    psnr: dict[str, _Decibels] = {}

    @property
    def kind(self) -> str:
        """``BINARY``, ``HOST`` or ``REAL``."""
        return {PACKED: BINARY, ENGINE: REAL}.get(self.form, HOST)


class FrontReport(_Model):
    """The latencies, fastest first, and why other forms are not there.

    ``size`` is the LR image's, pixels; ``test_set`` the one whose PSNR decides, None where no PSNR is known.
    """

    suite: str
    upscale: int
    size: tuple[int, int]
    rounds: int
    threads: int
    machine: Machine
    forms: tuple[FormTime, ...]
    notes: tuple[str, ...]
    test_set: str | None = None

    @field_validator("machine", mode="before")
    @classmethod
    def _is_whole(cls, machine: Any) -> Any:
        """What a file leaves out must not be filled in from the machine that reads it."""
        names = [field.name for field in fields(Machine)]
        if isinstance(machine, dict) and sorted(machine) != sorted(names):
            raise ValueError(f"Allowed are exactly these keys: {', '.join(names)}")
        return machine

    @property
    def test_sets(self) -> list[str]:
        """Names of the test sets that have a PSNR."""
        return list(dict.fromkeys(name for form in self.forms for name in form.psnr))

    def on(self, test_set: str) -> FrontReport:
        """The same with another test set's PSNR deciding.

        Raises:
            LMBError: If it has none of that name.
        """
        if test_set not in self.test_sets:
            raise LMBError(unknown_name("test set", test_set, self.test_sets))
        return self.model_copy(update={"test_set": test_set})

    def choices(self) -> list[Choice]:
        """The networks with a PSNR, each in its fastest form of each kind: ms, and dB to two digits, as papers have."""
        fastest: dict[tuple[str, str, str], FormTime] = {}
        for form in self.forms:
            if self.test_set in form.psnr:
                key = form.network, form.method, form.kind
                fastest[key] = min(form, fastest.get(key, form), key=lambda each: each.median)
        return [
            Choice(
                f"{form.network} {form.method}", form.kind, form.median * 1e3, round(form.psnr[self.test_set or ""], 2)
            )
            for form in fastest.values()
        ]

    def to_json(self) -> str:
        """The figures as JSON, for :func:`read_front`; seconds and dB."""
        return self.model_dump_json(indent=2) + "\n"

    def __str__(self) -> str:
        height, width = self.size
        title = (
            f"suite {self.suite}, x{self.upscale}, on {height} x {width} pixels; {self.threads} thread(s): "
            f"{clock_of(self.threads)}; {self.rounds} interleaved rounds\n{self.machine}"
        )
        sets = self.test_sets
        columns = ("network", "method", "form", "median ms", "least ms", *(f"{name}, dB" for name in sets))
        rows = [
            (form.network, form.method, form.form, f"{form.median * 1e3:.1f}", f"{form.minimum * 1e3:.1f}",
             *(f"{form.psnr[name]:.2f}" if name in form.psnr else "" for name in sets))
            for form in self.forms
        ]  # fmt: skip
        parts = [render(title, columns, rows, right=range(3, len(columns)))]
        if self.test_set is not None:
            parts.append(self._answer())
        return "\n".join([*parts, *(f"note: {note}" for note in self.notes)])

    def _answer(self) -> str:
        title = (
            f"the best picture at a latency: PSNR on {self.test_set}, dB; ahead: what the best {BINARY} network has "
            "above the other"
        )
        columns = ("at most, ms", f"best {BINARY}", f"best {HOST}", "ahead", f"best {REAL}", "ahead")
        return render(title, columns, list(self._answers()), right=(0, 3, 5))

    def _answers(self) -> Iterator[tuple[str, ...]]:
        """A row for each latency at which a kind has a better network than below."""
        choices = self.choices()
        kinds = (BINARY, HOST, REAL)
        limits = {each.cost for kind in kinds for each in front_of(c for c in choices if c.kind == kind)}
        for limit in sorted(limits):
            binary, *others = (best_at(choices, limit, kind) for kind in kinds)
            yield f"{limit:.1f}", _named(binary), *(text for other in others for text in _against(binary, other))


def read_front(path: str | Path) -> FrontReport:
    """Reads what ``bench front --output`` wrote.

    Raises:
        LMBError: If it cannot be read, or holds something else.
    """
    path = expanded(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as reason:
        raise LMBError(f"{path}: cannot read the latencies: {reason}.") from None
    if not isinstance(data, dict):
        raise LMBError(f"{path}: a front is an object, not {type(data).__name__}.")
    return validate(FrontReport, data, str(path))


def _named(choice: Choice | None) -> str:
    return "none" if choice is None else f"{choice.label}, {choice.gain:.2f}"


def _against(binary: Choice | None, other: Choice | None) -> tuple[str, str]:
    ahead = "" if binary is None or other is None else f"{binary.gain - other.gain:+.2f}"
    return _named(other), ahead
