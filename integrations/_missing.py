# SPDX-License-Identifier: Apache-2.0
"""The hosts' installing commands, and what is said where one is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmb_quant.errors import LMBError

INSTALL = {
    "basicsr": "pip install 'lmb-quant[basicsr]' && pip install --no-deps --no-build-isolation basicsr==1.4.2",
    "torchao": "pip install 'lmb-quant[torchao]'",
    "timm": "pip install 'lmb-quant[timm]'",
    "spandrel": "pip install 'lmb-quant[spandrel]'",
}
"""The command that installs a host, by the name of its package."""


class MissingHostError(LMBError, ImportError):
    """A host, or a package that it needs, cannot be imported; the message holds the command that installs it."""


@contextmanager
def needed(host: str, missing: type[MissingHostError]) -> Iterator[None]:
    """Within it a host is imported.

    Args:
        host: The name of its package.
        missing: What is raised where that fails.
    """
    try:
        yield
    except ImportError as error:
        raise missing(f"{host} cannot be imported: {error}. To install it: {INSTALL[host]}") from error
