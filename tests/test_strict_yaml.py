# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/strict_yaml.py: what is a number and what is text, written and read."""

import pytest
import yaml

from lmb_quant import LMBError
from lmb_quant.strict_yaml import dump_yaml, find_text, parse_mapping, parse_yaml


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


@pytest.mark.parametrize("text", ["2024-12-01", "2020-13-45", "2001-12-14t21:59:43.10-05:00"])
def test_a_date_is_text(text):
    assert parse_yaml(f"key: {text}") == {"key": text}
    assert yaml.safe_load(dump_yaml({"key": text})) == {"key": text}  # quoted: BasicSR reads what we write


@pytest.mark.parametrize("text", ["!!int x", "!!int ''", "!!float x", "!!bool x", "!!timestamp x", "!!timestamp 1-1-1"])
def test_a_value_that_is_not_of_its_tag(text):
    with pytest.raises(LMBError, match="not valid YAML"):
        parse_yaml(f"key: {text}")


def test_a_home_that_is_not_there(tmp_path):
    with pytest.raises(LMBError, match=r"~nosuch/x.yaml: cannot read the recipe"):
        find_text("~nosuch/x.yaml", "recipe", tmp_path)


def test_a_key_given_twice_and_what_is_no_mapping_are_refused():
    with pytest.raises(LMBError, match="the key 'a' is given twice"):
        parse_yaml("{a: 1, a: 2}")
    with pytest.raises(LMBError, match=r"mine: a recipe is a mapping, not list"):
        parse_mapping("[1]", "mine", "a recipe")
