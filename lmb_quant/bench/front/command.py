# SPDX-License-Identifier: Apache-2.0
"""What ``lmb-quant bench front`` does: latencies, the PSNR of their networks, a picture of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmb_quant.bench.report import write_output
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import check_new

from .measure import measure_front
from .report import FrontReport, read_front
from .scores import Scores, find_scores


@dataclass(frozen=True)
class Request:
    """What the user asks for; ``scores``, ``times`` and ``picture`` are files, ``size`` is that of the LR image."""

    suite: str
    only: tuple[str, ...]
    rounds: int
    threads: int
    size: tuple[int, int] | None
    scores: Path | None
    test_set: str | None
    times: Path | None
    picture: Path | None


def run_front(request: Request, show: Callable[[FrontReport], None], tell: Callable[[str], None]) -> None:
    """Measures a front, or reads one, and draws it.

    Args:
        request: What the user asks for.
        show: Gets the front before it is drawn.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If a file or a name is wrong; all that can be known before is found before anything is timed.
    """
    earlier = None if request.times is None else read_front(request.times)
    given = earlier is None or request.scores is not None
    scores = find_scores(request.scores, request.suite) if given else None
    _check(request, earlier, scores)
    front = earlier or measure_front(
        request.suite, only=request.only, size=request.size, rounds=request.rounds, threads=request.threads, tell=tell
    )
    front = front if scores is None else scores.added_to(front)
    front = front if request.test_set is None else front.on(request.test_set)
    show(front)
    if request.picture is not None:
        from .picture import draw_front

        write_output(request.picture, draw_front(front))


def _check(request: Request, earlier: FrontReport | None, scores: Scores | None) -> None:
    if request.picture is not None:
        from . import picture  # noqa: F401  before the measurement, because plotting may be missing

        if request.picture.suffix.lower() != ".svg":
            raise LMBError(f"--picture: {str(request.picture)!r} is not allowed. Allowed: NAME.svg.")
        check_new(request.picture)
    known = scores or earlier
    test_sets = known.test_sets if known else []
    if not test_sets and (request.picture or request.test_set):
        option = "--picture" if request.picture else "--test-set"
        raise LMBError(f"{option} needs the PSNR of the networks of {request.times or request.suite}. Give --scores.")
    if request.test_set is not None and request.test_set not in test_sets:
        raise LMBError(f"--test-set: {unknown_name('test set', request.test_set, test_sets)}")
