# SPDX-License-Identifier: Apache-2.0
"""Which values of an option file are numbers."""

from __future__ import annotations

import math
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false, which Python takes for 1 and 0, are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
