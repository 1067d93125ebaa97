# SPDX-License-Identifier: Apache-2.0
"""The PSNR of a suite's networks, from a report's CSV file."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lmb_quant.bench.suite.report.columns import PSNR
from lmb_quant.errors import LMBError
from lmb_quant.files import expanded
from lmb_quant.strict_yaml import shipped_names

from .report import FrontReport

_KEYS = ("network", "method", "upscale")


@dataclass(frozen=True)
class Scores:
    """PSNR in dB by test set, of each network, method and SR factor; ``place`` is where it was read, for messages."""

    place: str
    psnr: dict[tuple[str, str, int], dict[str, float]]

    @property
    def test_sets(self) -> list[str]:
        """Names of the test sets."""
        return list(dict.fromkeys(name for psnr in self.psnr.values() for name in psnr))

    @classmethod
    def parse(cls, text: str, place: str) -> Scores:
        """Reads the CSV text that ``bench report`` writes.

        Raises:
            LMBError: If it is none; names line, value and what is allowed.
        """
        lines = csv.DictReader(io.StringIO(text))
        titles = lines.fieldnames or []
        sets = {title: title.removesuffix(PSNR) for title in titles if title.endswith(PSNR)}
        missing = [key for key in _KEYS if key not in titles] or ([] if sets else [f"SET{PSNR}"])
        if missing:
            raise LMBError(f"{place}: the column {missing[0]!r} is missing. Allowed: the CSV file of a report.")
        found: dict[tuple[str, str, int], dict[str, float]] = {}
        for line in lines:
            where = f"{place}: line {lines.line_num}"
            upscale = line["upscale"] or ""
            if not upscale.isdecimal():
                raise LMBError(f"{where}: upscale: {upscale!r} is not allowed. Allowed: a whole number.")
            key = line["network"], line["method"], int(upscale)
            if key in found:
                raise LMBError(f"{where}: {' '.join(key[:2])} x{upscale} is there twice. Allowed: once.")
            found[key] = {name: _decibels(line[title], f"{where}: {title}") for title, name in sets.items()}
        return cls(place, found)

    def added_to(self, report: FrontReport) -> FrontReport:
        """A report with the PSNR of its forms; those without one have a note.

        Raises:
            LMBError: If none of them is in the file.
        """
        forms = [
            form.model_copy(update={"psnr": self.psnr.get((form.network, form.method, report.upscale), {})})
            for form in report.forms
        ]
        if forms and not any(form.psnr for form in forms):
            raise LMBError(f"{self.place}: it has none of the networks of suite {report.suite}, x{report.upscale}.")
        unknown = dict.fromkeys(f"{form.network} {form.method}" for form in forms if not form.psnr)
        missing = f"; not there: {', '.join(unknown)}" if unknown else ""
        notes = (*report.notes, f"PSNR from {self.place}{missing}")
        added = report.model_copy(update={"forms": tuple(forms), "notes": notes})
        return added.on(added.test_sets[0]) if forms else added


def find_scores(source: Path | None, suite: str | Path) -> Scores | None:
    """Reads a file of scores, or those that come with a suite of the package.

    Args:
        source: The CSV file; None for those that come with the suite.
        suite: The suite's name, or its file.

    Returns:
        The scores; None where no file was given and none comes with the suite.

    Raises:
        LMBError: If the file cannot be read, or is none of scores.
    """
    if source is not None:
        path = expanded(source)
        try:
            return Scores.parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeError, csv.Error) as reason:
            raise LMBError(f"{path}: cannot read the scores: {reason}.") from None
    folder = files("lmb_quant.bench").joinpath("suites")
    name = f"{suite}.csv"
    if suite not in shipped_names(folder) or not folder.joinpath(name).is_file():
        return None
    return Scores.parse(folder.joinpath(name).read_text(encoding="utf-8"), f"{name}, which comes with the package")


def _decibels(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LMBError(f"{where}: {text!r} is not allowed. Allowed: a number of dB.")
    return value
