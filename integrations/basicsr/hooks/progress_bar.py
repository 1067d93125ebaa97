# SPDX-License-Identifier: Apache-2.0
"""A progress bar on a terminal."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info

from ._base import Hook

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class ProgressBar(Hook):
    """Shows iteration, loss, it/s and time left below the log lines. Always on where stderr is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._open = contextlib.ExitStack()

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Opens the bar at the first iteration."""
        if self._bar is None and sys.stderr.isatty() and get_dist_info()[0] == 0:
            self._bar = tqdm(total=model.total_iter, initial=it - 1, unit="it", dynamic_ncols=True)
            self._open.enter_context(logging_redirect_tqdm([get_root_logger()]))

    def after_step(self, model: LMBModel, it: int) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update()
            if it % int(model.opt["logger"]["print_freq"]) == 0:
                self._bar.set_postfix(loss=f"{model.loss.item():.4f}")

    def after_train(self, model: LMBModel) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._open.close()
            self._bar = None
