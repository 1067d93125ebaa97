# SPDX-License-Identifier: Apache-2.0
"""The engine's reader of packed files beside lmb_quant.load: what it opens, Python loads."""

import copy
import ctypes
import json

import numpy as np
import pytest
import torch
from helpers import recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBHybridNet, LMBSRResNet
from lmb_quant.modules import packed_convs_by_name
from lmb_quant.ops._library import find
from lmb_quant.ops.binary_conv2d.spec import ACTS
from lmb_quant.packed_file import checksum

LIBRARY = find()[0]
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the engine is not installed")


def opened(data):
    """Whether the engine opens a file; asserts that it says why not."""
    network = ctypes.c_void_p()
    status = LIBRARY.c.lmbq_network_open(data, ctypes.c_size_t(len(data)), 0, ctypes.byref(network))
    assert status in (0, 5), LIBRARY.c.lmbq_last_error()
    assert (status == 0) == bool(network)
    LIBRARY.c.lmbq_network_close(ctypes.byref(network))
    return status == 0


def upscaled(data, image, open_network="lmbq_network_open"):
    """The result of a file's network, by its bytes; ``image`` is uint8 ``(H, W, 3)``, the result twice as large."""
    network = ctypes.c_void_p()
    opens = getattr(LIBRARY.c, open_network)
    assert opens(data, ctypes.c_size_t(len(data)), 0, ctypes.byref(network)) == 0
    height, width, _ = image.shape
    out = np.zeros((2 * height, 2 * width, 3), np.uint8)
    status = LIBRARY.c.lmbq_network_run_bytes(
        network, image.ctypes.data, image.strides[0], out.ctypes.data, out.strides[0], height, width, 1, None
    )
    LIBRARY.c.lmbq_network_close(ctypes.byref(network))
    assert status == 0, LIBRARY.c.lmbq_last_error()
    return out


def refusal(path):
    """What lmb_quant.load says, empty if it loads the file."""
    try:
        lmb.load(path)
    except LMBError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def signed(header, tensors):
    header = {key: value for key, value in header.items() if key != "sha256"}
    return save(tensors, {"lmb_quant": json.dumps(header | {"sha256": checksum(header, tensors)})})


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path = tmp_path_factory.mktemp("reader") / "net.safetensors"
    lmb.save(lmb.convert(LMBHybridNet(num_feat=4, num_block=1, upscale=2)), path, real_weights="int8")
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["lmb_quant"]), load_file(path)


def values(data):
    """Every place in JSON data, as (container, key); not in what is for Python only."""
    for key in data if isinstance(data, dict) else range(len(data)):
        if key in ("arch", "recipe"):
            continue
        yield data, key
        if isinstance(data[key], (dict, list)):
            yield from values(data[key])


JSON = st.sampled_from(
    [None, True, False, 0, 1, 2, 3, 4, -1, 1 << 16, 1 << 70, 0.5, 2.0, -0.0, "", "é😀", "local", "prelu", "rprelu",
     "sum", "none", "conv", "binary", "conv_first", "body.0.conv", [], {}, [1, 1], [1, 1, 1, 1], {"kind": "relu"}]
)  # fmt: skip
CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.sampled_from(["set", "drop", "add", "twice"]), JSON), min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_what_the_engine_opens_python_loads_unless_the_architecture_says_otherwise(parts, tmp_path, changes):
    header, tensors = copy.deepcopy(parts[0]), parts[1]
    for place, kind, value in changes:
        spots = list(values(header))
        container, key = spots[place % len(spots)]
        if kind == "drop":
            del container[key]
        elif kind == "add" and isinstance(container, dict):
            container[str(value)] = container[key]
        elif kind == "twice" and isinstance(container, list):
            container.insert(key, container[key])
        else:
            container[key] = value
    data = signed(header, tensors)
    if opened(data):
        path = tmp_path / "stranger.safetensors"
        path.write_bytes(data)
        assert refusal(path) in ("", "stages: they are not those of LMBHybridNet with these layers.")


def test_any_form_of_the_same_header(parts, tmp_path):
    """The checksum is over the values, so spaces, the order of keys and escapes are free."""
    header, tensors = parts
    header = {**header, "package_version": 'é "\\\n\t\x7f\u2028😀', "recipe": None}
    assert opened(signed(header, tensors))
    header = {key: header[key] for key in reversed(header) if key != "sha256"}
    text = json.dumps(header | {"sha256": checksum(header, tensors)}, indent=3, ensure_ascii=False)
    assert opened(save(tensors, {"lmb_quant": text}))
    assert not opened(save(tensors, {"lmb_quant": text.replace("é", "e")}))


@pytest.mark.parametrize("act", ACTS)
def test_every_activation_function_has_its_name_in_the_engine(parts, act):
    header, tensors = copy.deepcopy(parts[0]), dict(parts[1])
    layer = header["layers"]["body.0.conv"]
    outputs = layer["out_channels"]
    for name in ("slope", "gamma", "zeta"):
        tensors.pop(f"body.0.conv.act_{name}", None)
        if name in ACTS[act].tensors:
            tensors[f"body.0.conv.act_{name}"] = tensors["body.0.conv.weight_scale"].clone()
    layer |= {"act": act, "slopes": outputs if "slope" in ACTS[act].tensors else 0}
    assert opened(signed(header, tensors)), LIBRARY.c.lmbq_last_error()


def test_values_that_are_not_finite_are_in_files(parts, tmp_path):
    header, tensors = parts[0], dict(parts[1])
    tensors["tail.0.bias"] = tensors["tail.0.bias"] * float("nan")
    assert opened(signed(header, tensors))


def test_refusals_are_the_same(parts, tmp_path):
    """A few of them."""
    header, tensors = parts
    for change, words in (
        ({"format_version": 99}, "format_version"),
        ({"more": 1}, "more"),
        ({"layers": {}}, "layer"),
        ({"stages": []}, "stage"),
        ({"encoded": 3}, "encoded"),
        ({"package_version": None}, "package_version"),
    ):
        data = signed({**header, **change}, tensors)
        assert not opened(data)
        assert words in LIBRARY.c.lmbq_last_error().decode()
        path = tmp_path / "stranger.safetensors"
        path.write_bytes(data)
        assert words in refusal(path)


def test_int8_weights_are_the_same_numbers(parts, tmp_path):
    header, tensors = parts
    assert len(header["encoded"]) == 4
    path = tmp_path / "net.safetensors"
    path.write_bytes(signed(header, tensors))
    lmb.save(lmb.load(path), tmp_path / "float.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    assert (upscaled(path.read_bytes(), image) == upscaled((tmp_path / "float.safetensors").read_bytes(), image)).all()


def test_a_file_opened_in_8_bits_is_the_network_of_that_arithmetic(parts, tmp_path):
    header, tensors = parts
    path = tmp_path / "net.safetensors"
    path.write_bytes(signed(header, tensors))
    net = lmb.load(path)
    last = [m for m in net.modules() if type(m) is torch.nn.Conv2d][-1]
    torch.nn.init.normal_(last.weight)  # it is zero at first
    lmb.save(net, path)
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    in_float = upscaled(path.read_bytes(), image)
    assert lmb.set_real_arithmetic(net, "int8") == 2
    in_int8 = upscaled(path.read_bytes(), image, "lmbq_network_open_int8")
    assert (in_int8 == lmb.upscale(net, image)).all()
    assert (in_int8 != in_float).any()


@pytest.mark.parametrize(
    "change",
    [
        {"conv_first.bias": {"codec": "lmb_quant.int8_channels", "words": {}}},
        {"conv_first.weight": {"codec": "lmb_quant.int8_channels", "words": {"bits": 8}}},
        {"conv_first.weight": {"codec": "torchao.IntxUnpackedToInt8Tensor", "words": {}}},
        {"conv_first.weight": {"codec": 8, "words": {}}},
        {"nowhere": {"codec": "lmb_quant.int8_channels", "words": {}}},
    ],
)
def test_int8_that_does_not_fit_is_refused(parts, change):
    header, tensors = parts
    assert not opened(signed({**header, "encoded": header["encoded"] | change}, tensors))


def test_a_tensor_beside_its_int8_form_is_refused(parts, tmp_path):
    header, tensors = parts
    data = signed(header, tensors | {"conv_first.weight": torch.zeros(5, dtype=torch.uint8)})
    assert not opened(data)
    assert "tensor 'conv_first.weight' has no place" in LIBRARY.c.lmbq_last_error().decode()
    (tmp_path / "net.safetensors").write_bytes(data)
    assert refusal(tmp_path / "net.safetensors")


@pytest.mark.parametrize("arch", [LMBSRResNet, LMBHybridNet, LMBVDSR])
def test_a_binary_layer_may_be_the_first(tmp_path, arch):
    """The image's channels are then those of the layer."""
    first_too = recipe(ignore=["@last", "@upsample", "@grouped"])
    network = lmb.convert(arch(num_feat=8, upscale=2, recipe=first_too)).eval()
    assert "conv_first" in packed_convs_by_name(network)
    path = tmp_path / "net.safetensors"
    lmb.save(network, path)
    image = np.random.default_rng(0).integers(0, 256, (9, 10, 3), np.uint8)
    assert np.array_equal(upscaled(path.read_bytes(), image), lmb.upscale(network, image))
