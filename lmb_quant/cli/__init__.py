# SPDX-License-Identifier: Apache-2.0
"""The lmb-quant command."""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.text import Text

from lmb_quant.cli import speed, suites, training, use  # noqa: F401  each adds its commands
from lmb_quant.cli._common import app
from lmb_quant.errors import LMBError

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command line; what a user did wrong ends in one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be what the terminal cannot show
    try:
        app()
    except LMBError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "bold red"), f" {error}"))
        raise SystemExit(2) from None
