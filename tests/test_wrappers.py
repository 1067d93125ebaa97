# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/wrappers.py: networks in PyTorch's wrappers are packed, saved, loaded and exported as if they had none."""

import onnxruntime
import pytest
import torch
from helpers import small_net
from torch import nn
from torch.optim.swa_utils import AveragedModel

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBSRResNet
from lmb_quant.wrappers import unwrapped, wrapped_parts

WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "compile": torch.compile,
    "compiled DataParallel": lambda net: torch.compile(nn.DataParallel(net)),
}


@pytest.fixture(params=WRAPPERS)
def wrap(request):
    return WRAPPERS[request.param]


def make_net():
    return LMBSRResNet(num_feat=8, num_block=1, upscale=2)


def test_a_network_without_wrapper_is_itself():
    net = make_net()
    assert unwrapped(net) is net
    assert not wrapped_parts(net)


def test_a_wrapped_network_is_packed_saved_and_loaded(wrap, tmp_path):
    net, x = make_net(), torch.rand(1, 3, 7, 9)
    packed = lmb.convert(wrap(net))
    assert type(packed) is LMBSRResNet
    lmb.save(wrap(packed), tmp_path / "net.safetensors")
    loaded = lmb.load(tmp_path / "net.safetensors")
    assert torch.equal(loaded(x), lmb.convert(net)(x))
    assert lmb.recipe_of(wrap(loaded)).metadata.name == "lmb"
    assert torch.equal(lmb.load(tmp_path / "net.safetensors", wrap(make_net()))(x), loaded(x))


def test_a_wrapped_network_is_exported(tmp_path):
    packed = lmb.convert(lmb.binarize(small_net(), "lmb"))
    lmb.export_onnx(nn.DataParallel(packed), tmp_path / "net.onnx")
    x = torch.rand(1, 3, 9, 8)
    (y,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"image": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), packed(x))


def test_packing_in_place_reaches_the_network_inside():
    net = make_net()
    assert lmb.convert(nn.DataParallel(net), inplace=True) is net


def test_a_wrapper_inside_is_named(tmp_path):
    packed = lmb.convert(make_net())
    packed.body = torch.compile(packed.body)
    with pytest.raises(LMBError, match=r"part 'body' is wrapped in OptimizedModule.*save it before"):
        lmb.save(packed, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_is_no_module_is_a_type_error(tmp_path):
    path = tmp_path / "net.safetensors"
    lmb.save(lmb.convert(make_net()), path)
    for act in (
        lambda: lmb.convert("x"),
        lambda: lmb.save("x", path),
        lambda: lmb.load(path, model="x"),
        lambda: lmb.unpack("x"),
        lambda: lmb.export_onnx("x", path),
    ):
        with pytest.raises(TypeError, match=r"model: 'x' is not allowed\. Allowed: a torch\.nn\.Module\."):
            act()
