# SPDX-License-Identifier: Apache-2.0
"""The trained networks side by side."""

from __future__ import annotations

from collections.abc import Mapping

from lmb_quant.table import render

from .card import Card, parse_card
from .catalog import card_text, network_names


def cards() -> list[Card]:
    """The model cards of all networks, sorted by name."""
    return [parse_card(card_text(name), name) for name in network_names()]


def listing(times: Mapping[str, float] | None = None) -> str:
    """Makes a table of all networks: factor, recipe, steps, bytes, operations, PSNR on each test set.

    Args:
        times: Milliseconds a megapixel by network; a column shows them. One that is not there has none.

    Returns:
        The table as text.
    """
    shipped = cards()
    sets = list(dict.fromkeys(test for card in shipped for test in card.scores))

    def measured(name: str) -> tuple[str, ...]:
        return () if times is None else (f"{times[name]:.0f}" if name in times else "",)

    rows = [
        (
            card.name,
            f"x{card.upscale}",
            card.recipe,
            f"{card.training.steps:,}",
            f"{card.bytes / 1e3:.0f}",
            f"{card.ops / 1e9:.2f}",
            *measured(card.name),
            *(f"{card.scores[test].psnr:.2f}" if test in card.scores else "" for test in sets),
        )
        for card in shipped
    ]
    head = ("network", "upscale", "recipe", "steps", "KB", "OPs, G", *(() if times is None else ("ms/MP",)))
    columns = (*head, *(f"{test}, dB" for test in sets))
    return render("PSNR on Y; lmb-quant zoo NETWORK shows its model card", columns, rows, right=range(3, len(columns)))
