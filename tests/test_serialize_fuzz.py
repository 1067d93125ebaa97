# SPDX-License-Identifier: Apache-2.0
"""lmb_quant.load on files that nobody wrote: an LMBError, or what was saved; never another exception."""

import contextlib
import copy
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBSRResNet
from lmb_quant.packed_file import checksum

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLACES = st.integers(0, 1 << 16)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACES, st.integers(1, 255)),
        st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("delete"), PLACES, st.integers(1, 64)),
        st.tuples(st.just("truncate"), PLACES, st.none()),
        st.tuples(st.just("move"), PLACES, PLACES),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "net.safetensors"
    lmb.save(lmb.convert(LMBSRResNet(num_feat=4, num_block=1, upscale=2)), path)
    return path


def edited(data, edits):
    for kind, place, value in edits:
        at = place % (len(data) + 1)
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + value :]
        elif kind == "truncate":
            data = data[:at]
        elif kind == "move":
            other = value % (len(data) + 1)
            data = data[:at] + data[other : other + 16] + data[at:]
    return data


@FUZZ
@given(edits=EDITS)
def test_damaged_bytes(saved, tmp_path, edits):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(edited(saved.read_bytes(), edits))
    expected = load_file(saved)
    state = None
    with contextlib.suppress(LMBError):
        state = lmb.load(path).state_dict()
    if state is not None:
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=4)
    | st.sampled_from([0, 1, 2, 3, 4, 1 << 16, "local", "prelu", "none", "sign", "conv_first", "torchao.x", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def spots(data, found=()):
    """Every place in JSON data, as (container, key)."""
    found = list(found)
    for key in data if isinstance(data, dict) else range(len(data)):
        found.append((data, key))
        if isinstance(data[key], (dict, list)):
            found += spots(data[key])
    return found


@FUZZ
@given(changes=st.lists(st.tuples(PLACES, st.sampled_from(["set", "drop", "add"]), JSON), min_size=1, max_size=3))
def test_headers_of_strangers(saved, tmp_path, changes):
    """With a right checksum: what is loaded then may differ, but it is a network, and runs or says why not."""
    with safe_open(saved, framework="pt") as file:
        header = copy.deepcopy(json.loads(file.metadata()["lmb_quant"]))
    for place, kind, value in changes:
        container, key = spots(header)[place % len(spots(header))]
        if kind == "drop":
            del container[key]
        elif kind == "add" and isinstance(container, dict):
            container[str(value)] = container[key]
        else:
            container[key] = value
    header.pop("sha256", None)
    path, values = tmp_path / "stranger.safetensors", load_file(saved)
    save_file(values, path, {"lmb_quant": json.dumps(header | {"sha256": checksum(header, values)})})
    with contextlib.suppress(LMBError):
        assert lmb.load(path)(torch.rand(1, 3, 5, 4)).ndim == 4
