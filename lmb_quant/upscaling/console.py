# SPDX-License-Identifier: Apache-2.0
"""What ``lmb-quant upscale`` says about files."""

from __future__ import annotations

import signal

from rich.console import Console
from rich.text import Text

from lmb_quant.errors import LMBError


class Reporter:
    """Lines on a console, with the names of files as far as it can show them."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str | Text) -> None:
        """Says something."""
        shown = text if isinstance(text, Text) else Text(text)
        shown.plain = self.printable(shown.plain)
        self.console.print(shown, soft_wrap=True)

    def warning(self, text: str) -> None:
        """Says what the user should know."""
        self.line(Text.assemble(("warning:", "bold yellow"), f" {text}"))

    def error(self, name: object, error: Exception) -> None:
        """Says what went wrong with a file; an error of another package is named."""
        reason = str(error) or ("not enough memory" if isinstance(error, MemoryError) else type(error).__name__)
        said = reason if isinstance(error, LMBError) else f"{name}: {type(error).__name__}: {reason}"
        self.line(Text.assemble(("error:", "bold red"), f" {said}"))

    def stopped(self, end: SystemExit) -> None:
        """Says which signal ended the run."""
        word = signal.Signals(int(str(end.code)) - 128).name
        self.line(
            Text.assemble(("stopped:", "bold yellow"), f" by {word}. With --skip-existing the same command goes on.")
        )

    def printable(self, text: str) -> str:
        """Text that the console can show: names of files may be in another encoding."""
        return text.encode(self.console.encoding, "backslashreplace").decode(self.console.encoding)

    def markup(self, text: str) -> str:
        """Text for a progress bar's description."""
        return self.printable(text).replace("[", r"\[")
