# SPDX-License-Identifier: Apache-2.0
"""Model cards: what a trained network is, how it was made, and what was measured of it; data at the head of a text."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lmb_quant.errors import LMBError
from lmb_quant.strict_data import validate
from lmb_quant.strict_yaml import parse_mapping

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Figure = Annotated[float, Field(strict=False)]
_FENCE = "---\n"


class Score(BaseModel):
    """PSNR in dB and SSIM on Y, means over the images of a test set."""

    model_config = _STRICT
    psnr: _Figure
    ssim: _Figure


class TrainingFacts(BaseModel):
    """How a network was trained.

    ``data`` maps each folder of training images to how many it held; ``patch`` is the side of an LR patch in pixels;
    ``seconds`` the whole time, None where it was not measured; ``commits`` those of lmb-quant's checkout at each start.
    """

    model_config = _STRICT
    command: str
    data: dict[str, int]
    steps: int
    batch: int
    patch: int
    seed: int
    seconds: _Figure | None
    machine: str
    threads: int
    commits: list[str]
    versions: dict[str, str]


class Card(BaseModel):
    """The data of a model card.

    ``bytes`` is the size of the packed file; ``parameters`` counts float ones and binary ones / 32; ``ops`` operations
    for an LR image of which the result is 1280 x 720 (docs/concepts.md). ``bicubic`` has the scores of bicubic
    upscaling of the same images.
    """

    model_config = _STRICT
    name: str
    description: str
    arch: str
    arch_args: dict[str, Any]
    upscale: Annotated[int, Field(ge=2)]
    recipe: str
    bytes: int
    parameters: _Figure
    ops: _Figure
    scores: dict[str, Score]
    bicubic: dict[str, Score]
    training: TrainingFacts
    data_licence: str
    weaknesses: list[str]


def parse_card(text: str, place: str) -> Card:
    """Reads the data at the head of a card.

    Args:
        text: The card: YAML between two lines ``---``, then Markdown.
        place: Where it stands, for messages.

    Raises:
        LMBError: If there are no such data, or they are not a card's.
    """
    head, fence, _ = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    if not text.startswith(_FENCE) or not fence:
        raise LMBError(f"{place}: it is no model card. Allowed: YAML between two lines '---' at its head.")
    return validate(Card, parse_mapping(head, place, "a model card"), place)
