# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/strict_data.py: the keys that a message allows, at every kind of place."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lmb_quant import LMBError
from lmb_quant.strict_data import validate


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    size: int = 1


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    leaf: Leaf | None = None
    row: list[Leaf] = []
    free: dict[str, Leaf] = {}
    named: dict[Annotated[str, Field(pattern="^[a-z]$")], Leaf] = {}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"leaf": {"sise": 1}}, "leaf"),
        ({"row": [{}, {"sise": 1}]}, r"row\[1\]"),
        ({"free": {"x": {"sise": 1}}}, "free.x"),
        ({"named": {"x": {"sise": 1}}}, "named.x"),
    ],
)
def test_an_unknown_key_is_answered_with_those_of_its_place(data, place):
    with pytest.raises(LMBError, match=rf"^here: {place}: unknown key 'sise'. Did you mean 'size'\? Allowed: size.$"):
        validate(Tree, data, "here")


def test_a_wrong_value_is_shown():
    with pytest.raises(LMBError, match=r"^here: row\[0\].size: '1' is not allowed. "):
        validate(Tree, {"row": [{"size": "1"}]}, "here")


def test_a_section_stands_before_the_place():
    with pytest.raises(LMBError, match=r"^here: a.b.leaf: unknown key 'sise'. Did you mean 'size'\? Allowed: size.$"):
        validate(Tree, {"leaf": {"sise": 1}}, "here", section=("a", "b"))
