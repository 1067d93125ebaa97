# SPDX-License-Identifier: Apache-2.0
"""The style sheet of all pages."""

from __future__ import annotations

from importlib.resources import files


def page_style() -> str:
    """CSS for headings, tables, figures and lists; a page adds what only it has."""
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")
