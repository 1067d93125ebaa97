# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/codec.py: a binary body with an int8 head and tail, trained, packed, saved, loaded."""

import json
import os

import pytest
import torch
from helpers import recipe, run_python, small_net
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchao.core.config import config_to_dict
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup

import lmb_quant as lmb
from lmb_quant import LMBError, Recipe
from lmb_quant.archs import LMBSRResNet
from lmb_quant.integrations.torchao import to_torchao
from lmb_quant.packed_file import checksum

# What runs with the oldest torchao compares graphs, and leaves the compiler to the other run.
BACKEND = "aot_eager" if "LMB_QUANT_TORCHAO" in os.environ else "inductor"
INT8 = config_to_dict(IntxWeightOnlyConfig(weight_dtype=torch.int8))
MIXED = recipe(others=[{"match": "conv_first", "torchao": INT8}, {"match": "tail.*", "torchao": INT8}])


def mixed_net(tail="classic"):
    """Prepared, trained for two steps, converted."""
    net = LMBSRResNet(num_feat=16, num_block=1, tail=tail, recipe=None)
    nn.init.normal_(next(m for m in reversed(net.tail) if isinstance(m, nn.Conv2d)).weight, std=0.1)  # not zeros
    quantize_(net, to_torchao(MIXED, net), filter_fn=None)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        (net(torch.rand(1, 3, 12, 10)) - 0.5).square().mean().backward()
        optimizer.step()
    quantize_(net, to_torchao(MIXED, net, step="convert"), filter_fn=None)
    return net


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixed") / "net.safetensors"
    lmb.save(mixed_net(), path)
    return path.read_bytes()


@pytest.fixture
def path(saved, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(saved)
    return tmp_path / "net.safetensors"


@pytest.mark.filterwarnings("ignore:.*_stable_hash_for_caching")
def test_trained_packed_saved_loaded_compiled(tmp_path):
    net, file = mixed_net("light"), tmp_path / "net.safetensors"
    lmb.save(net, file)
    loaded = lmb.load(file)
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(loaded(x), net(x))
    assert type(loaded.conv_first.weight) is type(net.conv_first.weight) is not nn.Parameter
    assert lmb.recipe_of(loaded) == Recipe.load(MIXED)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    compiled = torch.compile(loaded, fullgraph=True, backend=BACKEND)
    torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-5)
    lmb.save(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_the_file_holds_int8(path, tmp_path):
    tensors = load_file(path)
    assert tensors["tail.0.weight.qdata"].dtype == torch.int8
    assert {str(t.dtype) for t in tensors.values()} == {"torch.int8", "torch.uint8", "torch.float32"}
    lmb.save(lmb.convert(LMBSRResNet(num_feat=16, num_block=1, tail="classic")), tmp_path / "float.safetensors")
    assert path.stat().st_size < 0.5 * (tmp_path / "float.safetensors").stat().st_size


def test_summary_counts_what_is_stored(path):
    figures = lmb.summary(lmb.load(path), (1, 3, 8, 8))
    stored = {layer.name: layer for layer in figures.layers}
    assert {name: layer.bits for name, layer in stored.items() if layer.bits != 1} == {
        "conv_first": 8, "tail.0": 8, "tail.3": 8, "tail.8": 8
    }  # fmt: skip
    assert figures.bytes == sum(t.numel() * t.element_size() for t in load_file(path).values())
    assert stored["tail.0"].float_bytes == 4 * (64 * 16 * 9 + 64)
    assert stored["tail.0"].float_macs == 64 * 16 * 9 * 8 * 8


def test_a_fresh_process_loads_and_saves_without_importing_the_integration(path, tmp_path):
    x = torch.rand(1, 3, 6, 6)
    torch.save(x, tmp_path / "x.pt")
    expected = lmb.load(path)(x)
    run_python(f"""
import sys, torch
import lmb_quant as lmb
net = lmb.load({str(path)!r})
torch.save(net(torch.load({str(tmp_path / "x.pt")!r})), {str(tmp_path / "y.pt")!r})
""")
    assert torch.equal(torch.load(tmp_path / "y.pt"), expected)
    run_python(f"""
import torch, lmb_quant as lmb
from lmb_quant.archs import LMBSRResNet
from torchao.quantization import IntxWeightOnlyConfig, quantize_
net = lmb.convert(LMBSRResNet(num_feat=8, num_block=1, upscale=2))
quantize_(net, IntxWeightOnlyConfig(weight_dtype=torch.int8), filter_fn=lambda module, fqn: fqn == "conv_first")
lmb.save(net, {str(tmp_path / "b.safetensors")!r})
""")
    assert load_file(tmp_path / "b.safetensors")["conv_first.weight.qdata"].dtype == torch.int8


def test_without_torchao_the_error_says_how_to_install_it(path, tmp_path):
    (tmp_path / "torchao.py").write_text("raise ImportError('No module named torchao')")
    said = run_python(
        f"""
import lmb_quant as lmb
try:
    lmb.load({str(path)!r})
except lmb.LMBError as error:
    print(error)
""",
        path=[tmp_path],
    )
    assert "net.safetensors: tensor 'conv_first.weight': torchao cannot be imported" in said
    assert "pip install 'lmb-quant[torchao]'" in said


@pytest.mark.parametrize("dtype", [torch.int2, torch.int4], ids=str)
def test_fewer_bits_and_a_network_of_others(dtype, tmp_path):
    net = lmb.convert(lmb.binarize(small_net(), "lmb"))
    quantize_(
        net, IntxWeightOnlyConfig(weight_dtype=dtype, granularity=PerGroup(4)), filter_fn=lambda m, fqn: fqn == "6"
    )
    lmb.save(net, tmp_path / "net.safetensors")
    loaded = lmb.load(tmp_path / "net.safetensors", small_net())
    assert loaded[6].weight.target_dtype == dtype
    assert loaded[6].weight.block_size == net[6].weight.block_size
    x = torch.rand(1, 3, 9, 8)
    torch.testing.assert_close(loaded(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_tensor_class_that_no_codec_stores(tmp_path):
    net = lmb.convert(
        lmb.binarize(nn.Sequential(small_net(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(3, 4)), "lmb")
    )
    quantize_(net, Int8WeightOnlyConfig(), filter_fn=lambda module, fqn: fqn == "3")
    with pytest.raises(LMBError, match=r"tensor '3.weight': torchao\..* cannot be stored. Allowed: .*IntxUnpacked"):
        lmb.save(net, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def entry(header):
    return header["encoded"]["tail.8.weight"]


LIES = {
    "codec": (lambda h, t: entry(h).update(codec="os.system"), r"codec 'os.system' is not known here"),
    "codec of nothing": (lambda h, t: entry(h).update(codec="torchao.Other"), r"codec 'torchao.Other' is not known"),
    "key": (lambda h, t: entry(h).update(more=1), r"encoded.tail.8.weight: unknown key 'more'"),
    "no words": (lambda h, t: entry(h).pop("words"), r"'words' is missing"),
    "word": (lambda h, t: entry(h)["words"].update(colour=1), r"unknown key 'colour'"),
    "dtype": (lambda h, t: entry(h)["words"].update(dtype="float64"), r"dtype: 'float64'"),
    "bits": (lambda h, t: entry(h)["words"].update(target_dtype="int9"), r"target_dtype: 'int9'"),
    "fewer bits": (lambda h, t: entry(h)["words"].update(target_dtype="int4"), r"values that are no int4"),
    "activations": (lambda h, t: entry(h)["words"].update(activation_quantization="x"), r"quantization: 'x'"),
    "blocks": (lambda h, t: entry(h)["words"].update(block_size=[1, 3, 1, 1]), r"block_size: \[1, 3, 1, 1\]"),
    "other blocks": (lambda h, t: entry(h)["words"].update(block_size=[1, 8, 1, 1]), r"weight.scale.*\(3, 2, 3, 3\)"),
    "dimensions": (lambda h, t: entry(h)["words"].update(block_size=[1]), r"block_size: \[1\]"),
    "no block": (lambda h, t: entry(h)["words"].update(block_size=[0, 1, 1, 1]), r"block_size\[0\]: 0"),
    "true": (lambda h, t: entry(h)["words"].update(block_size=[True, 16, 1, 1]), r"block_size\[0\]: True"),
    "place": (lambda h, t: h["encoded"].update(nowhere=entry(h)), r"encoded: tensor 'nowhere' has no place"),
    "packed": (lambda h, t: h["encoded"].update({"body.0.conv1.bias": entry(h)}), r"body.0.conv1.bias' has no place"),
    "missing": (lambda h, t: t.pop("tail.8.weight.zero_point"), r"'tail.8.weight.zero_point' is missing"),
    "plain too": (lambda h, t: t.update({"tail.8.weight": torch.zeros(3, 16, 3, 3)}), r"'tail.8.weight' has no place"),
    "not told": (lambda h, t: h["encoded"].pop("tail.8.weight"), r"'tail.8.weight' is missing"),
    "shape": (lambda h, t: t.update({"tail.8.weight.qdata": torch.zeros(3, 8, 3, 3).to(torch.int8)}), r"weight.qdata"),
    "kind": (lambda h, t: t.update({"tail.8.weight.qdata": torch.zeros(3, 16, 3, 3)}), r"qdata.*Allowed: torch.int8"),
    "scale kind": (lambda h, t: t.update({"tail.8.weight.scale": torch.zeros(3, 1, 3, 3).long()}), r"scale': I64"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie_about_int8(path, lie):
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lmb_quant"])
    tensors = load_file(path)
    change, words = LIES[lie]
    change(header, tensors)
    del header["sha256"]
    save_file(tensors, path, {"lmb_quant": json.dumps(header | {"sha256": checksum(header, tensors)})})
    with pytest.raises(LMBError, match=words) as caught:
        lmb.load(path)
    assert str(path) in str(caught.value)
