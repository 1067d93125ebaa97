# SPDX-License-Identifier: Apache-2.0
"""What is said where a host is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmb_quant.errors import LMBError


class MissingHostError(LMBError, ImportError):
    """A host, or a package that it needs, cannot be imported; the message holds the command that installs it."""


@contextmanager
def needed(host: str, install: str, missing: type[MissingHostError]) -> Iterator[None]:
    """Within it a host is imported.

    Args:
        host: Its name.
        install: The command that installs it.
        missing: What is raised where that fails.
    """
    try:
        yield
    except ImportError as error:
        raise missing(f"{host} cannot be imported: {error}. To install it: {install}") from error
