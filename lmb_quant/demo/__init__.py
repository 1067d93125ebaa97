# SPDX-License-Identifier: Apache-2.0
"""The demo: photographs upscaled by a trained network, then LMB against plain sign, trained under equal conditions."""

from .run import STEPS as STEPS
from .run import run_demo as run_demo
