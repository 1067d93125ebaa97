# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/serialize.py: a packed network survives the file; whatever is not one is one clear error."""

import json
import struct
from pathlib import Path

import pytest
import torch
from helpers import recipe, small_net
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.packed_file import checksum

ARCHS = {
    "light": lambda: LMBSRResNet(num_feat=12, num_block=2, upscale=2),
    "classic": lambda: LMBSRResNet(num_feat=12, num_block=1, upscale=4, tail="classic", img_range=2.0),
    "vdsr": lambda: LMBVDSR(num_in_ch=1, num_out_ch=1, num_feat=10, num_conv=3, upscale=3),
}


def packed(make=ARCHS["light"]):
    net = make()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return lmb.convert(net)


@pytest.fixture
def path(tmp_path):
    lmb.save(packed(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def rewritten(path, *, change=lambda header: None, tensors=lambda tensors: None, sign=True):
    """The file with a changed header or changed tensors, its checksum made right again unless told otherwise."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lmb_quant"])
    values = load_file(path)
    change(header)
    tensors(values)
    if sign:
        header["sha256"] = checksum({k: v for k, v in header.items() if k != "sha256"}, values)
    save_file(values, path, {"lmb_quant": json.dumps(header)})
    return path


@pytest.mark.parametrize("name", ARCHS)
def test_round_trip(name, tmp_path):
    net = packed(ARCHS[name])
    lmb.save(net, tmp_path / "a.safetensors")
    loaded = lmb.load(str(tmp_path / "a.safetensors"))
    x = torch.rand(1, net.arch_args["num_in_ch"], 9, 8)
    assert type(loaded) is type(net)
    assert not loaded.training
    assert torch.equal(loaded(x), net(x))
    assert loaded.state_dict().keys() == net.state_dict().keys()
    assert not any(t.is_meta or t.requires_grad for t in [*loaded.parameters(), *loaded.buffers()])
    lmb.save(loaded, tmp_path / "b.safetensors")
    assert load_file(tmp_path / "b.safetensors").keys() == load_file(tmp_path / "a.safetensors").keys()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.safetensors", "b.safetensors"]


def test_a_network_of_others(tmp_path):
    def make():
        return lmb.binarize(small_net(), recipe(unit={"norm": "batch"}))

    net, path = packed(make), tmp_path / "net.safetensors"
    lmb.save(net, path)
    x = torch.rand(1, 3, 9, 8)
    for other in (small_net(), make(), lmb.convert(make())):
        assert torch.equal(lmb.load(path, other)(x), net(x))
    with pytest.raises(LMBError, match="names no architecture"):
        lmb.load(path)
    with pytest.raises(LMBError, match="no convolution there"):
        lmb.load(path, nn.Sequential(nn.Conv2d(3, 8, 3)))
    root = lmb.convert(lmb.binarize(nn.Conv2d(4, 4, 3), recipe(ignore=[])))
    lmb.save(root, path)
    y = torch.rand(1, 4, 5, 5)
    assert torch.equal(lmb.load(path, nn.Conv2d(4, 4, 3))(y), root(y))


def test_what_is_not_packed_is_not_saved(tmp_path):
    for net in (small_net(), ARCHS["light"]()):
        with pytest.raises(LMBError, match="convert"):
            lmb.save(net, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_truncated_files(path):
    data = path.read_bytes()
    for size in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(LMBError, match=r"net\.safetensors"):
            lmb.load(path)


def test_flipped_bits(path):
    data = bytearray(path.read_bytes())
    header = 8 + struct.unpack("<Q", data[:8])[0]
    places = [*range(0, 8), *range(8, header, 97), *range(header, len(data), 503), len(data) - 1]
    x = torch.rand(1, 3, 6, 6)
    expected, refused = lmb.load(path)(x), 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = lmb.load(path)
        except LMBError:
            refused += 1
        else:  # a space of the header's padding and the like
            assert torch.equal(loaded(x), expected)
    assert refused >= len(places) - 3


def layer_of(header):
    return header["layers"]["body.0.conv1"]


LIES = {
    "version": (lambda h: h.update(format_version=2), "format_version: 2"),
    "no version": (lambda h: h.pop("format_version"), "format_version"),
    "no layers": (lambda h: h.pop("layers"), "layers"),
    "layer unknown": (lambda h: h["layers"].update({"nowhere": layer_of(h)}), "nowhere"),
    "layer missing": (lambda h: h["layers"].pop("body.0.conv1"), "body.0.conv1"),
    "channels": (lambda h: layer_of(h).update(in_channels=16), "body.0.conv1"),
    "huge": (lambda h: layer_of(h).update(out_channels=1 << 40), "out_channels"),
    "kernel": (lambda h: layer_of(h).update(kernel_size=[5, 5], padding=[2] * 4), "weight_packed"),
    "word": (lambda h: layer_of(h).update(colour=1), "colour"),
    "act": (lambda h: layer_of(h).update(act="prelu", slopes=1), "act_slope"),
    "arch": (lambda h: h["arch"].update(type="os.system"), "unknown arch"),
    "arch recipe": (lambda h: h["arch"]["args"].update(recipe="lmb"), "recipe"),
    "arch argument": (lambda h: h["arch"]["args"].update(nothing=1), "nothing"),
    "arch huge": (lambda h: h["arch"]["args"].update(num_block=10**9), "num_block"),
    "arch width": (lambda h: h["arch"]["args"].update(num_feat=4096), "channels"),
    "arch scale": (lambda h: h["arch"]["args"].update(upscale=7), "upscale"),
    "arch list": (lambda h: h["arch"]["args"].update(num_feat=[12]), "num_feat"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(path, lie):
    change, words = LIES[lie]
    rewritten(path, change=change)
    with pytest.raises(LMBError, match=words) as caught:
        lmb.load(path)
    assert str(path) in str(caught.value)


TENSORS = {
    "missing": (lambda t: t.pop("conv_first.weight"), "conv_first.weight"),
    "packed missing": (lambda t: t.pop("body.0.conv1.weight_scale"), "weight_scale"),
    "foreign": (lambda t: t.update(more=torch.zeros(1)), "more"),
    "shape": (lambda t: t.update({"conv_first.bias": torch.zeros(13)}), "conv_first.bias"),
    "dtype": (lambda t: t.update({"body.0.conv1.weight_scale": torch.zeros(12).double()}), "weight_scale"),
    "tail": (lambda t: t["body.0.conv1.weight_packed"].fill_(255), "last channel"),
}


@pytest.mark.parametrize("lie", TENSORS)
def test_tensors_that_do_not_fit(path, lie):
    change, words = TENSORS[lie]
    rewritten(path, tensors=change)
    with pytest.raises(LMBError, match=words):
        lmb.load(path)


def test_a_wrong_checksum_and_foreign_files(path, tmp_path):
    rewritten(path, tensors=lambda t: t["conv_first.bias"].add_(1), sign=False)
    with pytest.raises(LMBError, match="checksum"):
        lmb.load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(LMBError, match=r"not one of lmb_quant"):
        lmb.load(path)
    save_file({"a": torch.zeros(2)}, path, {"lmb_quant": "[" * 100_000})
    with pytest.raises(LMBError, match="header"):
        lmb.load(path)
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(LMBError, match="not a safetensors file"):
        lmb.load(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    with pytest.raises(LMBError, match="truncated"):
        lmb.load(path)
    with pytest.raises(FileNotFoundError):
        lmb.load(Path(tmp_path / "none"))
