# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/strict_yaml.py: what is a number and what is text, written and read."""

import pytest

from lmb_quant import LMBError
from lmb_quant.strict_yaml import dump_yaml, parse_mapping, parse_yaml


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("-2E3", -2000.0), (".5e1", 5.0), ("1.5e+2", 150.0)])
def test_numbers_with_an_exponent(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize("text", ["1e368651383f-dirty", "1e5x", "1e", "12e4567-a", "1e5 steps"])
def test_text_that_begins_as_a_number(text):
    assert parse_yaml(f"key: {text}") == {"key": text}


@pytest.mark.parametrize(
    "value", ["1e36865", "1e5", "12", "0x1f", "yes", "null", "", "a: b", "ä", 1e-5, 3, 0.25, True, None, [], {"b": 1}]
)
def test_what_is_written_is_read_back(value):
    data = {"z": value, "a": [value]}
    assert parse_yaml(dump_yaml(data)) == data
    assert list(parse_yaml(dump_yaml(data))) == ["z", "a"]


def test_a_key_given_twice_and_what_is_no_mapping_are_refused():
    with pytest.raises(LMBError, match="the key 'a' is given twice"):
        parse_yaml("{a: 1, a: 2}")
    with pytest.raises(LMBError, match=r"mine: a recipe is a mapping, not list"):
        parse_mapping("[1]", "mine", "a recipe")
