# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/he_init.py."""

import pytest
import torch
from torch.nn import functional as F

from lmb_quant import LMBError
from lmb_quant.integrations.basicsr.networks import build

ARCH = {"type": "SRVGGNetCompact", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_conv": 16}


def test_a_deep_plain_network_starts_with_a_signal():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 12, 14)
    net = build({"type": "LMBHeInit", "upscale": 2, "arch": ARCH})
    with torch.no_grad():
        torch.testing.assert_close(net(image), F.interpolate(image, scale_factor=2.0))
        deep, default = (
            torch.nn.Sequential(*list(network.body)[:-1])(image).std((2, 3)).mean()
            for network in (net, build({**ARCH, "upscale": 2}))
        )
    assert 0.1 < deep < 10
    assert default < 0.05 * deep


def test_an_unknown_architecture():
    with pytest.raises(LMBError, match=r"network_g.arch: unknown architecture 'EDSRR'. Did you mean 'EDSR'\?"):
        build({"type": "LMBHeInit", "upscale": 2, "arch": {"type": "EDSRR"}})
