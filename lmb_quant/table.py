# SPDX-License-Identifier: Apache-2.0
"""Plain-text tables, one look for all of them."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def make_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    total: bool = False,
) -> Table:
    """Makes a table; ``right`` names the columns aligned to the right, ``total`` sets the last row apart."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if i in right else "left", no_wrap=i == 0)
    for i, row in enumerate(rows):
        table.add_row(*map(Text, row), end_section=total and i == len(rows) - 2)
    return table


def render(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    total: bool = False,
) -> str:
    """Renders a title line and :func:`make_table` to text of the width it needs."""
    console = Console(file=io.StringIO(), width=240, color_system=None, legacy_windows=False)
    console.print(make_table(columns, rows, right=right, total=total))
    assert isinstance(console.file, io.StringIO)
    lines = [title, *console.file.getvalue().splitlines()]
    return "\n".join(line.rstrip() for line in lines)
