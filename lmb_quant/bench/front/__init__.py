# SPDX-License-Identifier: Apache-2.0
"""Which network of a suite gives the best picture at a latency on this machine, without training one."""

from .command import Request as Request
from .command import run_front as run_front
from .measure import measure_front as measure_front
from .report import FormTime as FormTime
from .report import FrontReport as FrontReport
from .report import read_front as read_front
from .scores import Scores as Scores
from .scores import find_scores as find_scores
