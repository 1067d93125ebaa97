# SPDX-License-Identifier: Apache-2.0
"""Values of a hook's options, checked by kind and range."""

from __future__ import annotations

from typing import Any

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.numbers import is_number


def positive(name: str, value: Any) -> float:
    """Returns a number above 0, or raises LMBError."""
    if not is_number(value) or value <= 0:
        raise _refused(name, value, "a number above 0")
    return float(value)


def not_negative(name: str, value: Any) -> float:
    """Returns a number of 0 or more, or raises LMBError."""
    if not is_number(value) or value < 0:
        raise _refused(name, value, "a number, 0 or more")
    return float(value)


def iterations(name: str, value: Any) -> int:
    """Returns a whole number of iterations, or raises LMBError; 5e3, a float in YAML, is one."""
    if not is_number(value) or value < 1 or value % 1:
        raise _refused(name, value, "iterations, a whole number, 1 or more")
    return int(value)


def switch(name: str, value: Any) -> bool:
    """Returns true or false, or raises LMBError."""
    if not isinstance(value, bool):
        raise _refused(name, value, "true, false")
    return value


def names(name: str, value: Any, of: str) -> tuple[str, ...]:
    """Returns a list of text as a tuple, or raises LMBError; ``of`` says what is named."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _refused(name, value, f"a list of names of {of}")
    return tuple(value)


def _refused(name: str, value: Any, allowed: str) -> LMBError:
    return LMBError(f"{name}: {value!r} is not allowed. Allowed: {allowed}.")
