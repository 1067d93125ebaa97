# SPDX-License-Identifier: Apache-2.0
"""Our networks in the real spandrel, and its networks binarised, packed, saved and used."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("lmb_quant.integrations.spandrel", exc_type=ImportError)  # it repairs what spandrel imports

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.integrations.spandrel import load_network, save_described
from lmb_quant.integrations.spandrel.architecture import ID, register
from lmb_quant.integrations.spandrel.described import HEADER
from lmb_quant.integrations.spandrel.loading import hand_headers_on

spandrel = sys.modules["spandrel"]
from spandrel.architectures.Compact import Compact  # noqa: E402
from spandrel.architectures.ESRGAN import ESRGAN  # noqa: E402

ROOT = Path(__file__).parents[3]
IMAGE = torch.rand(1, 3, 13, 17, generator=torch.Generator().manual_seed(0))


def training_form(cls=LMBSRResNet, **options):
    sizes = {"num_block": 2} if cls is LMBSRResNet else {"num_conv": 3}
    torch.manual_seed(0)
    net = cls(**{"num_feat": 8, "upscale": 2, **sizes, **options})
    last = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(last.weight, std=0.1)
    return net.eval()


@pytest.fixture
def packed_file(tmp_path):
    lmb.save(lmb.convert(training_form()), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def loaded(path):
    return spandrel.ModelLoader().load_from_file(path)


def test_a_packed_file_is_an_image_model(packed_file):
    model = loaded(packed_file)
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.scale, model.input_channels, model.output_channels) == (2, 3, 3)
    assert model.purpose == "SR"
    assert model.architecture.id == ID
    assert model.tags == ["1-bit", "packed", "LMBSRResNet", "8nf", "2nb", "lmb"]
    assert model.tiling is spandrel.ModelTiling.SUPPORTED
    assert str(model.device) == "cpu"
    expected = lmb.upscale(lmb.load(packed_file), IMAGE).clamp(0, 1)
    torch.testing.assert_close(model(IMAGE), expected, rtol=0, atol=0)


def test_a_network_that_comes_with_the_package(tmp_path):
    net = lmb.from_pretrained("lmb_small_x4")
    lmb.save(net, tmp_path / "net.safetensors")
    model = loaded(tmp_path / "net.safetensors")
    assert (model.scale, model.tags[:2]) == (4, ["1-bit", "packed"])
    torch.testing.assert_close(model(IMAGE), lmb.upscale(net, IMAGE).clamp(0, 1), rtol=0, atol=0)


def test_one_channel(tmp_path):
    net = lmb.convert(training_form(LMBVDSR, num_in_ch=1, num_out_ch=1))
    lmb.save(net, tmp_path / "net.safetensors")
    model = loaded(tmp_path / "net.safetensors")
    assert (model.input_channels, model.output_channels) == (1, 1)
    torch.testing.assert_close(model(IMAGE[:, :1]), net(IMAGE[:, :1]).clamp(0, 1), rtol=0, atol=1e-6)


def test_half_precision_is_refused_by_spandrel(packed_file):
    with pytest.raises(spandrel.UnsupportedDtypeError):
        loaded(packed_file).half()


@pytest.mark.parametrize("form", ["packed", "training form"])
def test_a_described_file_needs_its_tensors_only(tmp_path, form):
    """As ComfyUI loads: the tensors are read by another's function, the architecture is found in them."""
    net = training_form(recipe="lmb-k5")
    net = lmb.convert(net) if form == "packed" else net
    path = tmp_path / "net.safetensors"
    save_described(net, path)
    model = spandrel.ModelLoader().load_from_state_dict(load_file(path)).eval()
    assert model.tags[1] == form
    assert model.tags[-1] == "lmb-k5"
    torch.testing.assert_close(model(IMAGE), lmb.upscale(net, IMAGE).clamp(0, 1), rtol=0, atol=0)
    assert {name for name in load_file(path) if name != HEADER} == set(net.state_dict())


def compact(upscale=2):
    torch.manual_seed(0)
    net = Compact(num_feat=16, num_conv=3, upscale=upscale)
    for parameter in net.parameters():
        parameter.data.mul_(2)
    return net.eval()


def esrgan():
    torch.manual_seed(0)
    return ESRGAN(num_filters=16, num_blocks=1, scale=4).eval()


@pytest.mark.parametrize("make", [compact, esrgan])
def test_a_network_of_spandrels_is_binarised_packed_saved_and_used(make, tmp_path):
    torch.save(make().state_dict(), tmp_path / "float.pth")
    net = load_network(tmp_path / "float.pth")
    torch.testing.assert_close(net(IMAGE), make()(IMAGE))
    packed = lmb.convert(lmb.binarize(net, "lmb").eval())
    lmb.save(packed, tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    assert type(again) is type(net)
    expected = lmb.upscale(packed, IMAGE)
    torch.testing.assert_close(lmb.upscale(again, IMAGE), expected, rtol=0, atol=0)
    model = loaded(tmp_path / "net.safetensors")
    assert model.tags == ["1-bit", "packed", "lmb"]
    torch.testing.assert_close(model(IMAGE), expected.clamp(0, 1), rtol=0, atol=0)


def test_the_command_takes_such_a_network(tmp_path, monkeypatch, capsys):
    from PIL import Image

    from lmb_quant import cli

    packed = lmb.convert(lmb.binarize(compact(), "lmb").eval())
    lmb.save(packed, tmp_path / "net.safetensors")
    pixels = (IMAGE[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    arguments = ["upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", tmp_path / "net.safetensors"]
    monkeypatch.setattr(sys, "argv", ["lmb-quant", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code, capsys.readouterr()
    with Image.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.asarray(image), lmb.upscale(packed, pixels))


def test_other_files_are_read_as_before(tmp_path):
    net = compact()
    torch.save(net.state_dict(), tmp_path / "a.pth")
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        model = loaded(tmp_path / name)
        assert model.architecture.id == "Compact"
        torch.testing.assert_close(model(IMAGE), net(IMAGE).clamp(0, 1))


def test_registering_again_does_no_harm():
    before, loader = len(spandrel.MAIN_REGISTRY), spandrel.ModelLoader.load_state_dict_from_file
    register()
    hand_headers_on()
    assert len(spandrel.MAIN_REGISTRY) == before
    assert spandrel.ModelLoader.load_state_dict_from_file is loader
    assert spandrel.MAIN_REGISTRY.architectures("detection")[0].architecture.id == ID


def header(value):
    return torch.frombuffer(bytearray(value), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({HEADER: torch.zeros(3)}, "float32 .* is not allowed. Allowed: uint8, one dimension"),
        ({HEADER: header(b"\xff\xff")}, "it is no UTF-8"),
        ({HEADER: header(b"no json")}, "it is no JSON"),
        ({HEADER: header(b"{}")}, "format_version: None is not known here"),
        ({HEADER: header(b'{"form": "training"}')}, "arch"),
        ({"conv_first.bias": torch.zeros(8)}, "it is damaged: the contents do not have the checksum"),
        ({"more": torch.zeros(8)}, "tensor 'more' has no place in the network"),
    ],
)
def test_a_damaged_state_dict(packed_file, change, message):
    state = spandrel.ModelLoader().load_state_dict_from_file(packed_file) | change
    with pytest.raises(LMBError, match=message):
        spandrel.ModelLoader().load_from_state_dict(state)


def test_a_damaged_training_form(tmp_path):
    save_described(training_form(), tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    data = json.loads(bytes(state[HEADER].tolist()))
    data["arch"]["args"]["num_block"] = 10**6
    with pytest.raises(LMBError, match=r"num_block: 1000000 is not allowed\. Allowed: numbers up to"):
        spandrel.ModelLoader().load_from_state_dict(state | {HEADER: header(json.dumps(data).encode())})
    del state["conv_first.bias"]
    with pytest.raises(LMBError, match=r"the tensors do not fit LMBSRResNet: .*conv_first\.bias"):
        spandrel.ModelLoader().load_from_state_dict(state)


def test_what_cannot_be_described(tmp_path):
    with pytest.raises(LMBError, match="it is a float network"):
        save_described(compact(), tmp_path / "a.safetensors")
    with pytest.raises(LMBError, match="a training form of SRVGGNetCompact cannot be made again"):
        save_described(lmb.binarize(compact(), "lmb"), tmp_path / "a.safetensors")


def test_files_that_cannot_be_loaded(tmp_path):
    with pytest.raises(LMBError, match=r"none\.pth: there is no such file\."):
        load_network(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(LMBError, match=r"a\.pth: its architecture is not allowed\. Allowed: those of spandrel"):
        load_network(tmp_path / "a.pth")
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(LMBError, match=r"b\.safetensors: spandrel cannot load it"):
        load_network(tmp_path / "b.safetensors")
    conv = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
    lmb.save(lmb.convert(lmb.binarize(conv, "lmb").eval()), tmp_path / "c.safetensors")
    with pytest.raises(LMBError, match=r"c\.safetensors: its architecture is not allowed"):
        load_network(tmp_path / "c.safetensors")


def test_the_guide_to_hosts_shows_these_files():
    guide = (ROOT / "docs" / "adding_a_host.md").read_text()
    for name in ("_host.py", "__init__.py"):
        assert (ROOT / "integrations" / "spandrel" / name).read_text() in guide


def test_without_spandrel(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lmb_quant.integrations.spandrel")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(LMBError, match=r"spandrel cannot be imported: .* pip install 'lmb-quant\[spandrel\]'"):
        importlib.import_module("lmb_quant.integrations.spandrel")
