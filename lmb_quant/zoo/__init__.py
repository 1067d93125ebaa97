# SPDX-License-Identifier: Apache-2.0
"""Trained packed networks that come with the package: for each a file and a model card."""

from .card import Card as Card
from .card import parse_card as parse_card
from .catalog import DEFAULT as DEFAULT
from .catalog import card_text as card_text
from .catalog import network_file as network_file
from .catalog import network_names as network_names
from .listing import cards as cards
from .listing import listing as listing
