# SPDX-License-Identifier: Apache-2.0
"""Any architecture with He's initialisation, for deep plain networks that PyTorch's own leaves at a standstill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .archs import build_inner, upscale_argument


def LMBHeInit(arch: Mapping[str, Any], upscale: int) -> nn.Module:  # noqa: N802 - as LMBBinarized
    """Builds a registered architecture whose convolutions start as He et al. propose, biases and the last weight at 0.

    Args:
        arch: What ``network_g`` would be, without the SR factor.
        upscale: SR factor.

    Raises:
        LMBError: If there is no such architecture, or it takes no SR factor.

    Source:
        He et al., arXiv 1502.01852, equation 10. PyTorch's default makes the signal about 0.4 times as large with each
        layer: 16 layers of SRVGGNetCompact then learn nothing in thousands of steps. The zero is this project's choice:
        networks that add the upscaled image start as that image.
    """
    network = build_inner({**arch, upscale_argument(arch.get("type"), "network_g.arch"): upscale})
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    nn.init.zeros_(convolutions[-1].weight)
    return network
