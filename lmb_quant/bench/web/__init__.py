# SPDX-License-Identifier: Apache-2.0
"""The engine in a browser beside onnxruntime-web: ``lmb-quant bench web``."""

from .measure import WebReport as WebReport
from .measure import measure_web as measure_web
