# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/archs/_registry.py: an architecture that is registered is known everywhere."""

import pytest
import torch

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBSRResNet, _registry, architecture, architecture_called
from lmb_quant.bench.networks import make_networks


class Plain(LMBSRResNet):
    def __init__(self, num_block=2, num_feat=8, upscale=2, recipe="lmb"):
        super().__init__(num_block=num_block, num_feat=num_feat, upscale=upscale, recipe=recipe)
        self.arch_args = {"num_block": num_block, "num_feat": num_feat, "upscale": upscale}


@pytest.fixture
def plain():
    yield architecture("plain", count="num_block", parts="blocks")(Plain)
    del _registry._architectures["Plain"]


def test_a_registered_architecture_is_saved_by_name_and_benchmarked(plain, tmp_path):
    net = lmb.convert(plain())
    lmb.save(net, tmp_path / "net.safetensors")
    loaded, x = lmb.load(tmp_path / "net.safetensors"), torch.rand(1, 3, 6, 5)
    assert type(loaded) is plain
    assert torch.equal(loaded(x), net(x))
    assert make_networks("plain", None, 8).arguments == {"num_feat": 8, "num_block": 2, "upscale": 4}


def test_names_are_unique_and_the_count_exists(plain):
    with pytest.raises(LMBError, match="already taken"):
        architecture("plain", count="num_block", parts="blocks")(type("Other", (Plain,), {}))
    with pytest.raises(LMBError, match="already taken"):
        architecture("other", count="num_block", parts="blocks")(Plain)
    with pytest.raises(LMBError, match="no argument 'num_conv'"):
        architecture("other", count="num_conv", parts="blocks")(type("Other", (Plain,), {}))
    with pytest.raises(LMBError, match="Did you mean 'plain'"):
        architecture_called("plane")
