# SPDX-License-Identifier: Apache-2.0
"""Networks that have more layers in training than they need afterwards."""

from __future__ import annotations

import copy

import torch
from torch import nn

from basicsr.archs.ecbsr_arch import ECB


def folded(network: nn.Module) -> nn.Module:
    """The network as it runs after training: the branches of each ECB block are one convolution.

    BasicSR adds them up at each run, which hides the convolution from all that counts, quantises or compiles.

    Args:
        network: Any network; only ECBSR's blocks change.

    Returns:
        A copy in eval mode, or the network itself if it has no such block.

    Source:
        ECBSR, "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices", section 3.2.
    """
    if not any(isinstance(module, ECB) for module in network.modules()):
        return network
    network = copy.deepcopy(network).eval()
    for name, block in list(network.named_modules()):
        if isinstance(block, ECB):
            network.set_submodule(name, _fold(block))
    return network


@torch.no_grad()
def _fold(block: ECB) -> nn.Module:
    convolution = nn.Conv2d(block.in_channels, block.out_channels, 3, padding=1)
    convolution.load_state_dict(dict(zip(("weight", "bias"), block.rep_params(), strict=True)))
    return nn.Sequential(convolution, block.act) if block.act_type != "linear" else convolution
