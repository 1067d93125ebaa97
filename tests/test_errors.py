# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/errors: what callers catch, and how unknown names are phrased."""

import pytest

import lmb_quant as lmb
from lmb_quant.errors import named_reason, reason, unknown_name


def test_hierarchy():
    assert issubclass(lmb.RecipeError, lmb.LMBError)
    assert issubclass(lmb.LMBError, ValueError)


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("stee", ["tanh", "ste"], "unknown x 'stee'. Did you mean 'ste'? Allowed: ste, tanh."),
        ("zzz", ["tanh", "ste"], "unknown x 'zzz'. Allowed: ste, tanh."),
        (3, ["tanh"], "unknown x 3. Allowed: tanh."),
        ("", {"b": 1, "a": 2}, "unknown x ''. Allowed: a, b."),
    ],
    ids=["near", "far", "number", "empty"],
)
def test_unknown_name(name, allowed, expected):
    assert unknown_name("x", name, allowed) == expected


@pytest.mark.parametrize(
    ("error", "short", "named"),
    [
        (ValueError("too small\nsee the manual"), "too small", "ValueError: too small"),
        (KeyError("\n"), "'\\n'", "KeyError: '\\n'"),
        (AssertionError(), "AssertionError", "AssertionError: without a reason"),
        (RuntimeError(" \n"), "RuntimeError", "RuntimeError: without a reason"),
    ],
)
def test_reasons_of_errors(error, short, named):
    assert (reason(error), named_reason(error)) == (short, named)
