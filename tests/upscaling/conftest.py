# SPDX-License-Identifier: Apache-2.0
"""Small networks that do more than plain upscaling, and the command line."""

import sys

import pytest
import torch
from torch import nn

import lmb_quant as lmb
from lmb_quant import cli
from lmb_quant.archs import LMBVDSR, LMBHybridNet, LMBSRResNet


def make_network(kind="srresnet", **options):
    """A training form with random weights everywhere: the last convolution is made of zeros."""
    sizes = {"num_conv": 3} if kind == "vdsr" else {"num_block": 2}
    net = {"srresnet": LMBSRResNet, "vdsr": LMBVDSR, "hybrid": LMBHybridNet}[kind](
        **{"num_feat": 8, "upscale": 2, **sizes, **options}
    )
    last = [module for module in net.modules() if isinstance(module, nn.Conv2d)][-1]
    nn.init.normal_(last.weight, std=0.1)
    return net


@pytest.fixture
def packed():
    return lmb.convert(make_network())


@pytest.fixture
def model_file(packed, tmp_path):
    path = tmp_path / "net.safetensors"
    lmb.save(packed, path)
    return path


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs lmb-quant in this process; returns exit code and what was said, as one line."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lmb-quant", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return caught.value.code or 0, " ".join((captured.out + captured.err).split())

    return run


class Nearest(nn.Module):
    """Repeats each pixel; for images of certain channels only, as a network is."""

    def __init__(self, channels, upscale=2):
        super().__init__()
        self.channels, self.upscale = channels, upscale

    def forward(self, x):
        if x.shape[1] != self.channels:
            raise RuntimeError(f"{self.channels} channels expected")
        return torch.repeat_interleave(torch.repeat_interleave(x, self.upscale, 2), self.upscale, 3)
