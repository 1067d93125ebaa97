# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/folding.py."""

import torch
from torch import nn

from lmb_quant.archs import LMBSRResNet
from lmb_quant.counting import summary
from lmb_quant.integrations.basicsr.folding import folded
from lmb_quant.integrations.basicsr.networks import build


def test_a_folded_ecbsr_is_plain_convolutions_with_the_same_output():
    torch.manual_seed(0)
    arch = {"num_in_ch": 3, "num_out_ch": 3, "num_block": 1, "num_channel": 8, "act_type": "prelu", "scale": 2}
    net = build({"type": "ECBSR", "with_idt": True, **arch}).eval()
    image = torch.rand(1, 3, 9, 11)
    plain = folded(net)
    with torch.no_grad():
        torch.testing.assert_close(plain(image), net(image), rtol=1e-4, atol=1e-5)
    assert [tuple(m.weight.shape) for m in plain.modules() if isinstance(m, nn.Conv2d)] == [
        (8, 3, 3, 3), (8, 8, 3, 3), (12, 8, 3, 3),
    ]  # fmt: skip
    assert summary(plain, (1, 3, 10, 10)).float_ops == 100 * 9 * (8 * 3 + 8 * 8 + 12 * 8)


def test_other_networks_are_left_as_they_are():
    net = LMBSRResNet(num_feat=8, num_block=1, upscale=2)
    assert folded(net) is net
