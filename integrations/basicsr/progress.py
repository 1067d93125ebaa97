# SPDX-License-Identifier: Apache-2.0
"""What training prints: iteration, losses, learning rate, iterations per second, time left."""

from __future__ import annotations

import datetime
import time
from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info


class ProgressLogger:
    """Takes the place of BasicSR's MessageLogger: the same calls, the same TensorBoard tags, and it/s.

    Args:
        opt: The run's options.
        start_iter: Iterations done before (a resumed run).
        tb_logger: TensorBoard's SummaryWriter, or None.
    """

    def __init__(self, opt: dict[str, Any], start_iter: int = 0, tb_logger: Any = None) -> None:
        self.name, self.total = opt["name"], int(opt["train"]["total_iter"])
        self.tb_logger = tb_logger
        self.last_iter, self.last_time = start_iter, time.perf_counter()
        self.start_iter, self.start_time = self.last_iter, self.last_time

    def reset_start_time(self) -> None:
        """Starts the clock; BasicSR calls it after the first iteration, which is slower than the others."""
        self.start_iter, self.start_time = self.start_iter + 1, time.perf_counter()

    def __call__(self, log_vars: dict[str, Any]) -> None:
        """Logs one line.

        Args:
            log_vars: ``epoch``, ``iter``, ``lrs``, ``time`` and ``data_time`` in seconds; everything else is a value to
                show, losses beginning with ``l_``.
        """
        if get_dist_info()[0] != 0:
            return
        values = dict(log_vars)
        epoch, iteration, rates = values.pop("epoch"), int(values.pop("iter")), values.pop("lrs")
        values.pop("time", None)
        waiting = values.pop("data_time", 0.0)
        now = time.perf_counter()
        speed = (iteration - self.last_iter) / max(now - self.last_time, 1e-9)
        self.last_iter, self.last_time = iteration, now
        parts = [
            f"{self.name}: iter {iteration:,}/{self.total:,} (epoch {epoch})",
            *(f"{key} {value:.4e}" for key, value in values.items()),
            f"lr {', '.join(f'{rate:.3e}' for rate in dict.fromkeys(rates))}",
            f"{speed:.2f} it/s (data {waiting * 1e3:.0f} ms)",
            f"{self._left(iteration, now)} left",
        ]
        get_root_logger().info(" | ".join(parts))
        if self.tb_logger is not None:
            for key, value in {**values, "it_per_s": speed, "lr": rates[0]}.items():
                self.tb_logger.add_scalar(f"losses/{key}" if key.startswith("l_") else key, value, iteration)

    def _left(self, iteration: int, now: float) -> datetime.timedelta:
        done = max(iteration - self.start_iter, 1)
        seconds = (now - self.start_time) / done * max(self.total - iteration, 0)
        return datetime.timedelta(seconds=round(seconds))
