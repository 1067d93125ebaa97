# SPDX-License-Identifier: Apache-2.0
"""Options from a file as keyword arguments of a host's function: checked by its signature, and its refusal named."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lmb_quant.errors import LMBError, unknown_name


def call_with_options(place: str, function: Callable[..., Any], options: Mapping[str, Any], *args: Any) -> Any:
    """Checks options and calls a function with them.

    Args:
        place: Where the options stand, for messages.
        function: What they are for; ``args`` are its first arguments.
        options: Keyword arguments.
        args: Positional arguments.

    Raises:
        LMBError: If an option is unknown or missing, or the function does not take its value.
    """
    check_keywords(place, function, options, taken=len(args))
    return call(place, function, options, *args)


def check_keywords(
    place: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    taken: int = 0,
    given: Collection[str] = (),
) -> None:
    """Raises LMBError if ``function`` has no such keyword, or needs one that is not given.

    Args:
        place: Where the options stand, for messages.
        function: What is to be called.
        options: The keyword arguments.
        taken: How many first arguments are given in another way.
        given: Names of arguments that are too.
    """
    parameters = [p for p in list(inspect.signature(function).parameters.values())[taken:] if p.name not in given]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names = [parameter.name for parameter in named]
        for key in options:
            if key not in names:
                raise LMBError(f"{place}: {unknown_name('key', key, names)}")
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise LMBError(f"{place}: the key {parameter.name!r} is missing.")


def call(place: str, function: Callable[..., Any], options: Mapping[str, Any], *args: Any) -> Any:
    """Calls a function whose options are checked, or known to be its own.

    Raises:
        LMBError: If it does not take a value, or needs a package or a device that is not there.
    """
    try:
        return function(*args, **options)
    except LMBError as error:
        raise LMBError(f"{place}: {error}") from None
    except (AssertionError, ImportError, KeyError, TypeError, ValueError) as error:
        refused = f"{options!r} is not allowed: " if options else ""
        raise LMBError(f"{place}: {refused}{error}") from error
