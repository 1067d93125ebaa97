# SPDX-License-Identifier: Apache-2.0
"""Packed networks under torch.export and AOTInductor, with dynamic height and width."""

import pytest
import torch
from torch.export import Dim

import lmb_quant as lmb
from lmb_quant.archs import LMBVDSR, LMBSRResNet

pytestmark = pytest.mark.filterwarnings(  # torch's own, on saving and loading an exported program
    "ignore:No complete tensor found:UserWarning", "ignore:.*LeafSpec:FutureWarning"
)
SIZES = ({2: Dim("height", min=4, max=512), 3: Dim("width", min=4, max=512)},)
NETS = {
    "srresnet": lambda: LMBSRResNet(num_feat=12, num_block=2, upscale=2),
    "vdsr": lambda: LMBVDSR(num_feat=12, num_conv=2, upscale=2),
}


def exported(name):
    net = NETS[name]()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    packed = lmb.convert(net)
    return packed, torch.export.export(packed, (torch.rand(1, 3, 14, 11),), dynamic_shapes=SIZES)


@pytest.mark.parametrize("name", NETS)
def test_an_exported_network_is_saved_loaded_and_runs_at_other_sizes(name, tmp_path):
    packed, program = exported(name)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded, x = torch.export.load(tmp_path / "net.pt2").module(), torch.rand(1, 3, 20, 9)
    assert torch.equal(loaded(x), packed(x))
    kept = program.run_decompositions({}).graph_module.code
    assert "lmb_quant" in kept, "the operator was decomposed"


def test_aot_inductor_makes_a_package_that_runs_without_the_python_model(tmp_path):
    packed, program = exported("srresnet")
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "net.pt2"))
    x = torch.rand(1, 3, 20, 9)
    torch.testing.assert_close(torch._inductor.aoti_load_package(path)(x), packed(x))
