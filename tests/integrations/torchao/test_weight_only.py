# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/weight_only.py: what torchao does to convolutions, and what it only seems to do."""

import pytest
import torch
from torch import nn

from lmb_quant.archs import LMBSRResNet

pytest.importorskip("torchao")

from lmb_quant.integrations.torchao import UnsupportedSchemeError
from lmb_quant.integrations.torchao.weight_only import CONFIGS, quantised_weights, stored_tensors

IMAGE = torch.rand(1, 3, 9, 12)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = LMBSRResNet(num_feat=8, num_block=1, upscale=2, recipe=None).eval().requires_grad_(False)
    nn.init.normal_(net.tail[0].weight, std=0.05)
    return net


def test_fewer_bits_are_further_off_and_take_the_same_bytes(net):
    expected = net(IMAGE)
    forms = [quantised_weights(net, f"int{bits}-weight", IMAGE) for bits in (8, 4, 2)]
    errors = [(form(IMAGE) - expected).norm().item() for form in forms]
    assert 0 < errors[0] < errors[1] < errors[2]
    for form in forms:
        tensors = stored_tensors(form)
        weights = {name: t for name, t in tensors.items() if name.endswith("weight.qdata")}
        assert {t.dtype for t in weights.values()} == {torch.int8}
        assert sum(t.numel() for t in weights.values()) == sum(p.numel() for p in net.parameters() if p.ndim == 4)
        assert {"conv_first.bias", "conv_first.weight.scale", "conv_first.weight.zero_point"} <= set(tensors)
    assert torch.equal(net(IMAGE), expected)


@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        ("int1-weight", "makes every weight of 'conv_first' zero"),
        ("int4-packed", "leaves the weight of 'conv_first' as it is"),
        ("int8-dynamic", "NotImplementedError: Int8Tensor dispatch|leaves the weight"),  # the latter: torchao 0.15
    ],
)
def test_what_torchao_cannot_run_has_its_reason(net, scheme, reason):
    assert scheme in CONFIGS
    with pytest.raises(UnsupportedSchemeError, match=reason):
        quantised_weights(net, scheme, IMAGE)
