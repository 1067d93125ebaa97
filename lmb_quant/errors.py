# SPDX-License-Identifier: Apache-2.0
"""The exceptions a caller may catch, and the one way unknown names are reported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LMBError(ValueError):
    """Something the user gave cannot be used; the message says what, where, the value and what is allowed.

    The command line prints it without a traceback and exits with code 2.
    """


class RecipeError(LMBError):
    """A recipe is malformed, names something unknown, or does not fit the model."""


class UnknownArchitectureError(LMBError):
    """A packed file names no architecture, so it cannot be made without the float network."""


def reason(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none.

    Example:
        >>> reason(ValueError("too small")), reason(AssertionError())
        ('too small', 'AssertionError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def named_reason(error: BaseException) -> str:
    """The class of an error and the first line of its message.

    Example:
        >>> named_reason(ValueError("too small")), named_reason(AssertionError())
        ('ValueError: too small', 'AssertionError: without a reason')
    """
    first = (str(error).strip().splitlines() or ["without a reason"])[0]
    return f"{type(error).__name__}: {first}"


def unknown_name(what: str, name: object, allowed: Iterable[str]) -> str:
    """Phrases an unknown name with its nearest neighbour and all that is allowed.

    Example:
        >>> unknown_name("surrogate", "stee", ["ste", "tanh"])
        "unknown surrogate 'stee'. Did you mean 'ste'? Allowed: ste, tanh."
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}.{hint} Allowed: {', '.join(names)}."
