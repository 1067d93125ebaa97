# SPDX-License-Identifier: Apache-2.0
"""Every way to name a network, and what is wrong with the others."""

import pytest
import torch
from helpers import chain
from torch import nn

from lmb_quant import LMBError, binarize, convert, save
from lmb_quant.analysis import Photograph, read_photographs, source_of
from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.strict_yaml import dump_yaml

from .conftest import needs_basicsr, needs_timm


@pytest.fixture
def option_file(tmp_path):
    path = tmp_path / "options.yml"
    network = {"type": "LMBSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}
    path.write_text(dump_yaml({"network_g": network}))
    return path


def small(**changes):
    return LMBSRResNet(**{"num_feat": 8, "num_block": 1, "upscale": 2, **changes})


def test_a_name_of_the_zoo():
    source = source_of("lmb_small_x4")
    assert (source.label, source.upscale, source.channels, source.notes) == ("lmb_small_x4", 4, 3, ())


def test_a_packed_file(tmp_path):
    save(convert(small().eval()), tmp_path / "mine.safetensors")
    source = source_of(str(tmp_path / "mine.safetensors"))
    assert (source.label, source.upscale) == ("mine", 2)


@needs_basicsr
def test_an_option_file_says_that_its_weights_are_random(option_file):
    source = source_of(str(option_file))
    assert source.upscale == 2
    assert "random" in source.notes[0]


@needs_basicsr
def test_an_option_file_with_weights(option_file, tmp_path):
    net = small()
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    source = source_of(f"{option_file}:{tmp_path / 'net.pth'}")
    assert source.notes == ()
    assert torch.equal(source.network.conv_first.weight, net.conv_first.weight)
    torch.save({"params": small(num_feat=4).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(LMBError, match=r"other.pth: does not fit LMBSRResNet"):
        source_of(f"{option_file}:{tmp_path / 'other.pth'}")


@needs_basicsr
@pytest.mark.parametrize("content", ["bare", "params_ema", "both", "named"])
def test_weights_of_an_option_file_are_read_as_training_and_packing_do(option_file, tmp_path, monkeypatch, content):
    monkeypatch.setenv("HOME", str(tmp_path))
    state, other = small().state_dict(), small().state_dict()
    contents = {"bare": state, "params_ema": {"params_ema": state}, "both": {"params_ema": state, "params": other}}
    torch.save(contents.get(content, {"params_ema": other, "params": state}), tmp_path / "net.pth")
    path = {"pretrain_network_g": "~/net.pth"}
    if content in ("bare", "named"):
        path["param_key_g"] = None if content == "bare" else "params"
    option_file.write_text(option_file.read_text() + dump_yaml({"path": path}))
    assert torch.equal(source_of(str(option_file)).network.conv_first.weight, state["conv_first.weight"])
    if content != "named":
        found = source_of(f"{option_file}:~/net.pth").network
        assert torch.equal(found.conv_first.weight, state["conv_first.weight"])


@needs_basicsr
def test_the_folder_of_a_training_and_its_checkpoints(option_file, tmp_path):
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    option_file.rename(folder / "options.yml")
    nets = [small(), small()]
    for iteration, net in zip((5, 10), nets, strict=True):
        torch.save({"params": net.state_dict()}, folder / "models" / f"net_g_{iteration}.pth")
    source = source_of(str(folder))
    assert torch.equal(source.network.conv_first.weight, nets[1].conv_first.weight)
    assert [path.name for path in source.checkpoints] == ["net_g_5.pth", "net_g_10.pth"]
    first = source_of(str(folder / "models" / "net_g_5.pth"), "first")
    assert (first.label, len(first.checkpoints)) == ("first", 2)
    assert torch.equal(first.network.conv_first.weight, nets[0].conv_first.weight)


@needs_timm
def test_timm_networks():
    source = source_of("timm/test_resnet")
    assert (source.upscale, source.channels, source.side) == (None, 3, 160)
    assert "random" in source.notes[0]
    with pytest.raises(LMBError, match=r"timm has no network 'test_resnt'. Did you mean 'test_resnet'"):
        source_of("timm/test_resnt")
    with pytest.raises(LMBError, match=r"nowhere.pth: there is no such file"):
        source_of("timm/test_resnet:nowhere.pth")


@needs_timm
def test_timm_weights_that_the_user_has(tmp_path):
    from lmb_quant.integrations.timm import make_network

    net, _ = make_network("test_resnet")
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    source = source_of(f"timm/test_resnet:{tmp_path / 'mine.pth'}")
    assert torch.equal(source.network.conv1[0].weight, net.conv1[0].weight)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(LMBError, match=r"other.pth: its weights do not fit timm's test_resnet"):
        source_of(f"timm/test_resnet:{tmp_path / 'other.pth'}")


def test_modules_of_both_kinds():
    assert source_of(small(upscale=3)).upscale == 3
    assert source_of(LMBVDSR(num_feat=8, num_conv=2, upscale=4)).side == 24, "it works at HR size"
    classifier = nn.Sequential(*chain(3, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert source_of(classifier, "mine").upscale is None
    assert source_of(binarize(chain(1, 8, 8, 1), "lmb")).channels == 1


@pytest.mark.parametrize("name", ["lmb_smal_x4", "missing.safetensors", "some/folder.pth"])
def test_what_is_no_network(name):
    with pytest.raises(LMBError, match=rf"'{name}' is no network. Allowed: a name that lmb-quant zoo lists"):
        source_of(name)


def test_a_network_whose_result_is_no_tensor():
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(LMBError, match=r"mine: its result is tuple"):
        source_of(Two(), "mine")


def test_photographs_of_a_folder(folder, tmp_path):
    assert [photograph.name for photograph in read_photographs(folder, 2)] == ["0.png", "2.png"]
    assert len(read_photographs()) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(LMBError, match=r"--images: .*empty' holds no image"):
        read_photographs(tmp_path / "empty")
    with pytest.raises(LMBError, match=r"--images: .*nowhere' is no folder"):
        read_photographs(tmp_path / "nowhere")
    (folder / "bad.png").write_bytes(b"no image")
    with pytest.raises(LMBError, match=r"bad.png"):
        read_photographs(folder)


def test_inputs_of_super_resolution_are_reduced_photographs(photographs):
    inputs = source_of(small()).inputs(photographs)
    assert inputs.tensor.shape == (2, 3, 40, 40)
    assert inputs.original.shape == (2, 3, 80, 80)
    reduced = nn.functional.avg_pool2d(inputs.original, 2)
    assert float((reduced - inputs.tensor).abs().mean()) < 0.02


def test_a_photograph_that_is_too_small_is_named(photographs):
    tiny = Photograph("tiny.png", photographs[0].pixels[:12, :30])
    with pytest.raises(LMBError, match=r"tiny.png: 30 x 12 pixels are too few for a network of x2. Allowed: 16"):
        source_of(small()).inputs([*photographs, tiny])
