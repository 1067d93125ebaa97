# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/serialize.py, lmb_quant/packed_file: a packed network survives the file; all else is one clear error."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from helpers import conv, recipe, run_python, small_net
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError, Recipe
from lmb_quant.archs import LMBVDSR, LMBHybridNet, LMBSRResNet
from lmb_quant.packed_file import INT8_CHANNELS, TensorCodec, checksum, codecs, register_codec
from lmb_quant.serialize import load_named

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
    for size in (0, 4, 7, 8, 100, len(data) // 2, len(data) - 1):
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
    "version": (lambda h: h.update(format_version=5), "format_version: 5"),
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
    "stride": (lambda h: layer_of(h).update(stride=[2, 2], skip=False), r"stride: \(2, 2\) does not fit"),
    "padding": (lambda h: layer_of(h).update(padding=[0, 1, 2, 1]), r"padding: \(0, 1, 2, 1\) does not fit"),
    "skip": (lambda h: layer_of(h).update(stride=[2, 2]), "skip: True"),
    "slopes": (lambda h: layer_of(h).update(slopes=12.0), "slopes: 12.0"),
    "layer list": (lambda h: h["layers"].update({"body.0.conv1": [1]}), "body.0.conv1"),
    "key": (lambda h: h.update(code="import os"), "unknown key 'code'"),
    "recipe name": (lambda h: h.update(recipe="lmb"), "recipe: 'lmb'"),
    "recipe key": (lambda h: h["recipe"].update(colour=1), "recipe: unknown key 'colour'"),
    "recipe pattern": (lambda h: h["recipe"].update(ignore=["re:("]), "not a regular expression"),
    "encoded": (lambda h: h.update(encoded={"conv_first.weight": {"codec": "none.such", "words": {}}}), "codec 'none"),
    "stages": (lambda h: h["stages"].pop(), "stages: they are not those of LMBSRResNet"),
    "stages act": (lambda h: h["stages"][1]["act"].update(slope=0.5), "stages: they are not"),
    "stages word": (lambda h: h.update(stages="all"), "stages"),
    "arch list": (lambda h: h["arch"]["args"].update(num_feat=[12]), "num_feat"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie(path, lie):
    change, words = LIES[lie]
    rewritten(path, change=change)
    with pytest.raises(LMBError, match=words) as caught:
        lmb.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("version", "lacks"), [(1, ("gain", "act_on", "pixel_factor")), (2, ("pixel_factor",)), (3, ())]
)
def test_files_of_older_versions_are_read(path, version, lacks):
    def older(header):
        header["format_version"] = version
        del header["stages"]
        for layer in header["layers"].values():
            for key in lacks:
                del layer[key]

    x = torch.rand(1, 3, 6, 6)
    expected = lmb.load(path)(x)
    rewritten(path, change=older)
    assert torch.equal(lmb.load(path)(x), expected)


TENSORS = {
    "missing": (lambda t: t.pop("conv_first.weight"), "conv_first.weight"),
    "packed missing": (lambda t: t.pop("body.0.conv1.weight_scale"), "weight_scale"),
    "foreign": (lambda t: t.update(more=torch.zeros(1)), "more"),
    "shape": (lambda t: t.update({"conv_first.bias": torch.zeros(13)}), "conv_first.bias"),
    "dtype": (lambda t: t.update({"body.0.conv1.weight_scale": torch.zeros(12).double()}), "weight_scale"),
    "whole numbers": (lambda t: t.update({"conv_first.bias": torch.zeros(12).long()}), "conv_first.bias"),
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
    for zipped in (True, False):
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(LMBError, match=r"a PyTorch checkpoint.*lmb-quant convert .*net.safetensors -opt FILE -o "):
            lmb.load(path)
    path.write_bytes(b"a" * 100)
    with pytest.raises(LMBError, match="not a safetensors file"):
        lmb.load(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    with pytest.raises(LMBError, match="truncated"):
        lmb.load(path)
    with pytest.raises(FileNotFoundError):
        lmb.load(Path(tmp_path / "none"))


def test_the_recipe_is_kept_and_may_be_unknown(path):
    assert lmb.recipe_of(lmb.load(path)) == Recipe.load("lmb")
    for change in (lambda h: h.update(recipe=None), lambda h: h.pop("recipe")):
        assert lmb.recipe_of(lmb.load(rewritten(path, change=change))) is None


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_a_header_nested_deeply(path, depth):
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["lmb_quant"])
    for place in (header["recipe"]["scheme"]["activation"], header["arch"]["args"], header["layers"]["body.0.conv1"]):
        place["window"] = "HERE"
        text = json.dumps(header).replace('"HERE"', '{"a": [' * depth + "]}" * depth)
        save_file(load_file(path), path, {"lmb_quant": text})
        with pytest.raises(LMBError, match=r"net\.safetensors: "):
            lmb.load(path)


def test_values_that_are_no_numbers_are_kept(tmp_path):
    net = packed()
    net.conv_first.weight[0, 0, 0] = torch.tensor([float("nan"), float("inf"), -0.0])
    net.body[0].conv1.weight_scale[3] = float("nan")
    lmb.save(net, tmp_path / "net.safetensors")
    loaded = lmb.load(tmp_path / "net.safetensors").state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(loaded[name].contiguous().view(torch.uint8), value.contiguous().view(torch.uint8)), name


def shared_net():
    shared = conv(8, 8)
    return nn.Sequential(conv(3, 8), shared, nn.Sequential(nn.ReLU(), shared), conv(8, 3))


def test_a_module_in_two_places(tmp_path):
    net, path = packed(lambda: lmb.binarize(shared_net(), "lmb")), tmp_path / "net.safetensors"
    lmb.save(net, path)
    loaded = lmb.load(path, shared_net())
    assert loaded[1] is loaded[2][1]
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(loaded(x), net(x))
    with pytest.raises(LMBError, match=r"one convolution at two names, the file has two"):
        lmb.load(rewritten(path, change=lambda h: h["layers"]["2.1"].update(window=5)), shared_net())
    lmb.save(net, path)
    with pytest.raises(LMBError, match=r"'1.weight_scale' and '2.1.weight_scale' differ"):
        lmb.load(rewritten(path, tensors=lambda t: t["2.1.weight_scale"].add_(1)), shared_net())


def test_a_layer_that_is_binary_in_the_network_only(tmp_path):
    plain = recipe(unit={"act": "none", "skip": "none"}, activation={"binarizer": "sign"})
    lmb.save(lmb.convert(lmb.binarize(small_net(), plain | {"ignore": ["0", "4", "6"]})), tmp_path / "net.safetensors")
    for net in (lmb.binarize(small_net(), plain), lmb.convert(lmb.binarize(small_net(), plain))):
        before = repr(net)
        with pytest.raises(LMBError, match=r"layer '4': it is binary in the network, and float in the file"):
            lmb.load(tmp_path / "net.safetensors", net)
        assert repr(net) == before


def raw(path, header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_files_made_by_hand(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
    one = header["conv_first.bias"]["data_offsets"]
    cases = {
        "aliased": header | {"conv_first.bias": header["tail.0.bias"]},
        "overlapping": header | {"more": {"dtype": "U8", "shape": [4], "data_offsets": [one[0], one[0] + 4]}},
        "huge": header | {"conv_first.bias": header["conv_first.bias"] | {"shape": [1 << 40]}},
        "huger": header | {"conv_first.bias": header["conv_first.bias"] | {"shape": [1 << 63, 1 << 63]}},
        "outside": header | {"conv_first.bias": header["conv_first.bias"] | {"data_offsets": [1 << 40, 1 << 41]}},
        "reversed": header | {"conv_first.bias": header["conv_first.bias"] | {"data_offsets": one[::-1]}},
        "negative": header | {"conv_first.bias": header["conv_first.bias"] | {"shape": [-12]}},
        "no tensors": {"__metadata__": header["__metadata__"]},
        "metadata": header | {"__metadata__": {"lmb_quant": 1}},
        "type": header | {"conv_first.bias": header["conv_first.bias"] | {"dtype": "F4"}},
        "list": b"[]",
        "bytes": bytes(range(128, 192)),
        "empty": b"",
        "twice": data[8 : 8 + size].replace(b'"tail.0.bias"', b'"conv_first.bias"', 1),
    }
    for changed in cases.values():
        raw(path, changed, values)
        with pytest.raises(LMBError, match=r"net\.safetensors: "):
            lmb.load(path)


@pytest.mark.parametrize("name", [os.fsdecode(b"n\xff.safetensors"), "n\0.safetensors"])
def test_names_that_safetensors_cannot_open(name, path, tmp_path):
    with pytest.raises(LMBError, match=r"cannot be opened by safetensors. Allowed: a name in UTF-8"):
        lmb.save(lmb.load(path), tmp_path / name)
    with pytest.raises(LMBError, match=r"cannot be opened by safetensors. Allowed: a name in UTF-8"):
        lmb.load(tmp_path / name)


def test_what_is_no_file(path, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(LMBError, match=r"it is not a file"):
            lmb.load(place)
    with pytest.raises(NotADirectoryError):
        lmb.load(path / "more")


def test_a_file_that_may_not_be_read(path):
    path.chmod(0)
    said = run_python(f"""
import os
from lmb_quant import load
if os.geteuid() == 0:  # who may read everything
    os.seteuid(65534)
try:
    load({str(path)!r})
except PermissionError as error:
    print("refused")
""")
    assert said == "refused\n"


def test_headers_of_huge_networks_take_no_memory(path, tmp_path):
    """Under a limit of address space just above what the process has."""
    changes = {
        "blocks": lambda h: h["arch"]["args"].update(num_block=h["layers"].__len__()),
        "features": lambda h: h["arch"]["args"].update(num_feat=1 << 16),
        "layer": lambda h: layer_of(h).update(in_channels=1 << 16, out_channels=1 << 16),
        "everything": lambda h: (
            h["arch"]["args"].update(num_feat=1 << 16),
            [layer.update(in_channels=1 << 16, out_channels=1 << 16, slopes=1 << 16) for layer in h["layers"].values()],
        ),
    }
    data = path.read_bytes()
    for name, change in changes.items():
        path.write_bytes(data)
        rewritten(path, change=change).rename(tmp_path / f"{name}.huge")
    said = run_python(f"""
import pathlib, resource, sys
import lmb_quant as lmb
try:
    lmb.load({str(tmp_path / "none")!r})
except FileNotFoundError:
    pass
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(pathlib.Path({str(tmp_path)!r}).glob("*.huge")):
    try:
        lmb.load(path)
    except lmb.LMBError as error:
        print(path.stem)
assert "torch._dynamo" not in sys.modules  # the meta device loads no compiler
""")
    assert said.split() == sorted(changes)


def test_where_a_file_is_written(path, tmp_path):
    net = lmb.load(path)
    with pytest.raises(LMBError, match=r"there is no folder '.*/none'"):
        lmb.save(net, tmp_path / "none" / "net.safetensors")
    with pytest.raises(LMBError, match=r"it is a folder"):
        lmb.save(net, tmp_path)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # as any other new file
    before = path.read_bytes()
    for name in ("net.safetensors", "net", "net.bin", "a name.of.mine"):
        lmb.save(net, str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == before
        assert type(lmb.load(tmp_path / name)) is LMBSRResNet


class OfMine(torch.Tensor):
    pass


class WithExtraState(nn.Conv2d):
    def get_extra_state(self):
        return {"words": 1}


def test_tensors_that_cannot_be_stored(tmp_path):
    def with_head(head):
        net = packed(lambda: lmb.binarize(small_net(), "lmb"))
        net[0] = head
        return net

    mine = conv(3, 8)
    mine.weight = nn.Parameter(torch.zeros(8, 3, 3, 3).as_subclass(OfMine), requires_grad=False)
    cases = [
        (mine, r"tensor '0.weight': .*OfMine cannot be stored. Allowed: plain tensors"),
        (conv(3, 8, dtype=torch.complex64), r"tensor '0.weight': torch.complex64.*Allowed: dense tensors"),
        (conv(3, 8).to("meta"), r"tensor '0.weight': it is on the meta device"),
        (WithExtraState(3, 8, 3), r"tensor '0._extra_state': dict cannot be stored. Allowed: tensors"),
    ]
    for head, message in cases:
        with pytest.raises(LMBError, match=message):
            lmb.save(with_head(head), tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())
    lmb.save(with_head(conv(3, 8)), tmp_path / "net.safetensors")
    other = small_net()
    other[0] = WithExtraState(3, 8, 3, padding=1)
    with pytest.raises(LMBError, match=r"'0._extra_state': the network's state has dict there"):
        lmb.load(tmp_path / "net.safetensors", other)


def test_half_precision_outside_the_packed_layers(path, tmp_path):
    net = lmb.load(path).half()
    lmb.save(net, tmp_path / "half.safetensors")
    loaded = lmb.load(tmp_path / "half.safetensors")
    assert loaded.conv_first.weight.dtype == torch.half
    assert loaded.body[0].conv1.weight_scale.dtype == torch.float32


def test_a_codec_name_is_taken_once(monkeypatch):
    monkeypatch.setattr(codecs, "_codecs", {})

    class Codec(TensorCodec):
        name = "none.Words"
        stores = split = parts = join = None

    register_codec(Codec())
    with pytest.raises(LMBError, match=r"codec name 'none.Words' is already taken by .*Codec"):
        register_codec(Codec())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="has no file that nobody can read")
def test_a_named_file_that_cannot_be_read():
    with pytest.raises(LMBError, match="/proc/self/mem: it cannot be read: Input/output error"):
        load_named("/proc/self/mem")


def test_a_codec_that_refuses_values_leaves_the_network(tmp_path, monkeypatch):
    lmb.save(packed(lambda: lmb.binarize(small_net(), "lmb")), tmp_path / "net.safetensors", real_weights="int8")

    def refuse(self, parts, words):
        raise LMBError("0.weight: values that are none.")

    monkeypatch.setattr(type(INT8_CHANNELS), "join", refuse)
    given = small_net()
    before = [type(module) for module in given.modules()]
    with pytest.raises(LMBError, match="values that are none"):
        lmb.load(tmp_path / "net.safetensors", given)
    assert [type(module) for module in given.modules()] == before


def hybrid():
    return packed(lambda: LMBHybridNet(num_feat=12, num_block=2, upscale=2))


def test_real_weights_as_int8(tmp_path):
    net, path = hybrid(), tmp_path / "net.safetensors"
    lmb.save(net, path, real_weights="int8")
    loaded = lmb.load(path)
    for name, value in net.state_dict().items():
        other = loaded.state_dict()[name]
        assert (other.dtype, other.shape) == (value.dtype, value.shape)
        if name.endswith(("depthwise.weight", "pointwise.weight", "conv_first.weight", "tail.0.weight")):
            largest = value.abs().amax((1, 2, 3), keepdim=True)
            assert ((other - value).abs() <= largest / 254 * 1.001).all(), name
            assert not torch.equal(other, value), name
        else:
            assert torch.equal(other, value), name
    lmb.save(net, tmp_path / "float.safetensors")
    saved = 3 * sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))
    assert (tmp_path / "float.safetensors").stat().st_size - path.stat().st_size > saved / 2
    x = torch.rand(1, 3, 9, 8)
    assert (loaded(x) - net(x)).abs().max() < 0.05 * net(x).abs().max()
    lmb.save(loaded, tmp_path / "again.safetensors", real_weights="int8")
    assert torch.equal(lmb.load(tmp_path / "again.safetensors")(x), loaded(x))
    with pytest.raises(LMBError, match=r"unknown real_weights 'int7'\. Did you mean 'int8'"):
        lmb.save(net, path, real_weights="int7")


def test_a_channel_of_zeros_stays_zeros(tmp_path):
    net = hybrid()
    net.conv_first.weight.data[3] = 0
    lmb.save(net, tmp_path / "net.safetensors", real_weights="int8")
    weight = lmb.load(tmp_path / "net.safetensors").conv_first.weight
    assert torch.isfinite(weight).all()
    assert (weight[3] == 0).all()


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), "not finite"), (float("inf"), "not finite"), (None, "torch.float64 cannot")]
)
def test_weights_that_have_no_int8(value, error, tmp_path):
    net = hybrid()
    if value is None:
        net.conv_first.double()
    else:
        net.conv_first.weight.data[0, 0, 0, 0] = value
    with pytest.raises(LMBError, match=f"tensor 'conv_first.weight': .*{error}"):
        lmb.save(net, tmp_path / "net.safetensors", real_weights="int8")
    assert not list(tmp_path.iterdir())


BAD_INT8 = {
    "words": (
        {"change": lambda h: h["encoded"]["conv_first.weight"]["words"].update(bits=8)},
        "words: {'bits': 8} is not",
    ),
    "a binary layer's": (
        {"change": lambda h: h["encoded"].update({"body.0.conv.weight_scale": h["encoded"]["conv_first.weight"]})},
        "'body.0.conv.weight_scale' has no place",
    ),
    "a bias": (
        {"change": lambda h: h["encoded"].update({"conv_first.bias": h["encoded"]["conv_first.weight"]})},
        r"shape \(12,\) is not allowed",
    ),
    "scale": (
        {"tensors": lambda t: t.update({"conv_first.weight.scale": torch.ones(3)})},
        r"'conv_first.weight.scale': F32 \(3,\)",
    ),
    "qdata": ({"tensors": lambda t: t.pop("conv_first.weight.qdata")}, "'conv_first.weight.qdata' is missing"),
    "both": (
        {"tensors": lambda t: t.update({"conv_first.weight": torch.zeros(12, 3, 3, 3)})},
        "'conv_first.weight' has no place",
    ),
}


@pytest.mark.parametrize("name", BAD_INT8)
def test_int8_that_does_not_fit(name, tmp_path):
    change, error = BAD_INT8[name]
    path = tmp_path / "net.safetensors"
    lmb.save(hybrid(), path, real_weights="int8")
    rewritten(path, **change)
    with pytest.raises(LMBError, match=error):
        lmb.load(path)
