# SPDX-License-Identifier: Apache-2.0
"""Packed networks under torch.export, AOTInductor and ONNX, with dynamic height and width."""

import copy
import sys

import onnx
import onnxruntime
import pytest
import torch
from helpers import needs_compiler, recipe, small_net
from torch import nn
from torch.export import Dim

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBSRResNet
from lmb_quant.ops.binary_conv2d.spec import ACTS

pytestmark = pytest.mark.filterwarnings(  # torch's own, on saving and loading an exported program
    "ignore:No complete tensor found:UserWarning", "ignore:.*LeafSpec:FutureWarning"
)
SIZES = ({2: Dim("height", min=4, max=512), 3: Dim("width", min=4, max=512)},)
NETS = {
    "srresnet": lambda: LMBSRResNet(num_feat=12, num_block=2, upscale=2),
    "vdsr": lambda: LMBVDSR(num_feat=12, num_conv=2, upscale=2),
}


def packed_form(net):
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return lmb.convert(net)


def exported(name):
    packed = packed_form(NETS[name]())
    return packed, torch.export.export(packed, (torch.rand(1, 3, 14, 11),), dynamic_shapes=SIZES)


@pytest.mark.parametrize("name", NETS)
def test_an_exported_network_is_saved_loaded_and_runs_at_other_sizes(name, tmp_path):
    packed, program = exported(name)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded, x = torch.export.load(tmp_path / "net.pt2").module(), torch.rand(1, 3, 20, 9)
    torch.testing.assert_close(loaded(x), packed(x), rtol=0, atol=1e-6)  # the last addition rounds its own way
    kept = program.run_decompositions({}).graph_module.code
    assert "lmb_quant" in kept, "the operator was decomposed"


@needs_compiler
def test_aot_inductor_makes_a_package_that_runs_without_the_python_model(tmp_path):
    packed, program = exported("srresnet")
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "net.pt2"))
    x = torch.rand(1, 3, 20, 9)
    torch.testing.assert_close(torch._inductor.aoti_load_package(path)(x), packed(x))


def run_onnx(path, x):
    (y,) = onnxruntime.InferenceSession(path).run(None, {"image": x.numpy()})
    return torch.from_numpy(y)


def assert_mostly_close(actual, expected):
    """A value within rounding of its threshold may fall to the other side behind another float convolution."""
    assert actual.shape == expected.shape
    assert ((actual - expected).abs() > 1e-4 * expected.abs().max()).double().mean() < 0.02


@pytest.mark.parametrize("name", NETS)
def test_onnx_runs_whole_networks_at_other_sizes(name, tmp_path):
    packed = packed_form(NETS[name]())
    lmb.export_onnx(packed, tmp_path / "net.onnx")
    for size in ((1, 3, 64, 64), (3, 3, 20, 9)):
        x = torch.rand(size)
        assert_mostly_close(run_onnx(tmp_path / "net.onnx", x), packed(x))
    assert torch.equal(packed(x), packed(x.clone())), "the export changed the network"


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": {"window": 5}},
        {"activation": {"window": "global"}, "unit": {"act": "prelu"}},
        {"activation": {"shift": "channel"}, "unit": {"skip": "none", "act": "none"}},
        {"activation": {"binarizer": "sign"}, "unit": {"norm": "batch"}},
        {"rescale": {"rescaler": "spatial"}, "unit": {"act_on": "sum"}},
        {"activation": {"binarizer": "rsign"}},
        *({"unit": {"act": name}} for name, act in ACTS.items() if act.make),
        {"activation": {"shift": "channel", "gain": "channel"}, "unit": {"act_on": "sum"}},
    ],
    ids=str,
)
def test_onnx_computes_every_threshold_and_act(changes, tmp_path):
    packed = packed_form(lmb.binarize(small_net(), recipe(**changes, ignore=[])))
    lmb.export_onnx(packed, tmp_path / "net.onnx", (1, 3, 1, 9))
    x = torch.rand(3, 3, 13, 18)
    torch.testing.assert_close(run_onnx(tmp_path / "net.onnx", x), packed(x))


def test_onnx_strides_groups_and_uneven_padding(tmp_path):
    net = nn.Sequential(nn.Conv2d(6, 12, 3, 2, (1, 0), groups=3), nn.Conv2d(12, 9, (1, 3), padding="same", dilation=2))
    packed = packed_form(lmb.binarize(net, recipe(ignore=[], unit={"skip": "none"})))
    lmb.export_onnx(packed, tmp_path / "net.onnx", (1, 6, 20, 20))
    x = torch.rand(1, 6, 15, 22)
    torch.testing.assert_close(run_onnx(tmp_path / "net.onnx", x), packed(x))


def test_an_onnx_file_holds_packed_weights_and_no_traces(tmp_path):
    packed = packed_form(lmb.binarize(small_net(), "lmb"))
    lmb.export_onnx(packed, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    stored = {t.name: (t.data_type, list(t.dims)) for t in model.graph.initializer}
    assert stored["2.weight_packed"] == (onnx.TensorProto.UINT8, [8, 9])
    assert not any(dims == [8, 8, 3, 3] for _, dims in stored.values())
    assert b"test_export" not in (tmp_path / "net.onnx").read_bytes()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 3, 64), r"input_size: \(1, 3, 64\) is not allowed. Allowed: \(N, C, H, W\)"),
        ((1, 3, 0, 8), r"input_size: \(1, 3, 0, 8\) is not allowed"),
        ((1, 3, 8.0, 8), r"input_size: \(1, 3, 8.0, 8\) is not allowed"),
        (64, "input_size: 64 is not allowed"),
        ((1, 4, 8, 8), r"does not run on \(1, 4, 8, 8\)"),
    ],
    ids=str,
)
def test_wrong_sizes(size, message, tmp_path):
    with pytest.raises(LMBError, match=message):
        lmb.export_onnx(packed_form(lmb.binarize(small_net(), "lmb")), tmp_path / "net.onnx", size)
    assert not list(tmp_path.iterdir())


def test_a_network_that_takes_one_image_at_a_time_is_told(tmp_path):
    class One(nn.Sequential):
        def forward(self, x):
            return super().forward(x).view(1, 3, *x.shape[2:])

    packed = packed_form(lmb.binarize(One(*small_net()), "lmb"))
    with pytest.raises(LMBError, match=r"input_size: the model does not run on \(2, 3, 8, 8\): shape"):
        lmb.export_onnx(packed, tmp_path / "net.onnx", (1, 3, 8, 8))


def test_what_onnx_refuses(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="model"):
        lmb.export_onnx(None, tmp_path / "net.onnx")
    with pytest.raises(LMBError, match=r"no packed layer.*convert"):
        lmb.export_onnx(small_net(), tmp_path / "net.onnx")
    packed = packed_form(lmb.binarize(small_net(), "lmb"))
    for path in (tmp_path / "none" / "net.onnx", tmp_path, ""):
        with pytest.raises(LMBError, match="folder"):
            lmb.export_onnx(packed, path)
    with pytest.raises(LMBError, match=r"is on meta. Allowed: a network on the CPU"):
        lmb.export_onnx(copy.deepcopy(packed).to("meta"), tmp_path / "net.onnx")
    with pytest.raises(LMBError, match=r"is torch.float16. Allowed: torch.float32; model.float\(\)"):
        lmb.export_onnx(copy.deepcopy(packed).half(), tmp_path / "net.onnx")
    half = lmb.binarize(small_net(), "lmb")
    half[2] = packed[2]
    with pytest.raises(LMBError, match="binary layers that are not packed"):
        lmb.export_onnx(half, tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_text("mine")
    with pytest.raises(LMBError, match="input_size"):
        lmb.export_onnx(packed, tmp_path / "net.onnx", (1, 4, 8, 8))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(LMBError, match=r"lmb-quant\[onnx\]"):
        lmb.export_onnx(packed, tmp_path / "net.onnx")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("net.onnx", "mine")]
