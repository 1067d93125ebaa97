# SPDX-License-Identifier: Apache-2.0
"""Times training steps and writes step_times.json beside the validations."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmb_quant.files import write_atomically

from ._base import Hook
from ._values import not_negative

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel

FILE_NAME = "step_times.json"
_RECENT = 1000


def read_step_times(folder: str | Path) -> dict[str, Any]:
    """Reads what the hook wrote to a run's folder.

    Returns:
        ``iter``: iterations done; ``seconds``: mean of a step; ``median``: of the last thousand, in seconds (both None
        before the second step). Empty if there is no file yet.
    """
    path = Path(folder) / FILE_NAME
    return dict(json.loads(path.read_text())) if path.exists() else {}


class StepTimes(Hook):
    """Measures the time from one iteration's start to the next, loading of images included.

    Intervals that hold a validation or a checkpoint are left out. What was measured before a resume is kept.

    Args:
        every: Seconds between two writes of the file.
    """

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = not_negative("every", every)
        self._sum, self._count, self._recent = 0.0, 0, deque[float](maxlen=_RECENT)
        self._last: float | None = None
        self._written = 0.0

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Counts the iteration before this one."""
        now = time.perf_counter()
        if self._last is not None:
            self._sum, self._count = self._sum + now - self._last, self._count + 1
            self._recent.append(now - self._last)
        if now - self._written >= self.every:
            self._write(model, it - 1)
            now = time.perf_counter()
            self._written = now
        self._last = now

    def before_val(self, model: LMBModel, it: int) -> None:
        """Leaves this interval out."""
        self._last = None

    def before_save(self, model: LMBModel, it: int) -> None:
        """Leaves this interval out."""
        self._last = None

    def after_train(self, model: LMBModel) -> None:
        """Writes the final figures."""
        self._write(model, model.total_iter)

    def _write(self, model: LMBModel, done: int) -> None:
        if model.opt["rank"] != 0:
            return
        mean = self._sum / self._count if self._count else None
        median = statistics.median(self._recent) if self._recent else None
        text = json.dumps({"iter": done, "seconds": mean, "median": median})
        write_atomically(Path(model.opt["path"]["log"]) / FILE_NAME, text.encode())

    def state_dict(self) -> dict[str, Any]:
        """What was measured."""
        return {"sum": self._sum, "count": self._count, "recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what was measured."""
        self._sum, self._count = state["sum"], state["count"]
        self._recent = deque(state["recent"], maxlen=_RECENT)
