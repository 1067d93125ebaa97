# SPDX-License-Identifier: Apache-2.0
"""Activations are what layers read, whatever the budget; layers that run again, or never."""

import pytest
import torch
from helpers import chain, conv, small_net
from torch import nn

from lmb_quant import LMBError, binarize, convert
from lmb_quant.analysis import capture as module
from lmb_quant.analysis.capture import capture, read_sizes
from lmb_quant.analysis.layers import find_layers


def read(net, x, size=None):
    layers, _ = find_layers(net, "net", size or (1, *x.shape[1:]))
    with torch.no_grad():
        sizes = read_sizes(net, layers, x, "net")
        return {layer.name: values for layer, values in capture(net, layers, x, "net", sizes)}, sizes


@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_activations_are_what_the_layers_read(budget, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", budget)
    net, x = small_net(), torch.rand(6, 3, 10, 9)
    found, _ = read(net, x)
    for name in ("0", "2", "4", "6"):
        torch.testing.assert_close(found[name], net[: int(name)](x))


def test_inputs_of_packed_layers_are_those_of_the_training_form():
    net = binarize(chain(3, 8, 8, 8, 3), "lmb").eval()
    x = torch.rand(2, 3, 12, 12)
    binary, _ = read(net, x)
    packed, _ = read(convert(net), x)
    assert binary.keys() == packed.keys()
    for name in binary:
        torch.testing.assert_close(packed[name], binary[name], rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.never = conv(3, 3), conv(3, 3)

    def forward(self, x):
        return self.used(self.used(x))


def test_the_first_run_counts_and_what_never_runs_is_missing():
    net, x = Twice(), torch.rand(5, 3, 8, 8)
    found, sizes = read(net, x)
    assert list(found) == ["used"]
    assert sizes["used"].runs == 2
    assert torch.equal(found["used"], x)


def test_a_network_without_convolutions_is_named():
    with pytest.raises(LMBError, match=r"mine: it has no convolution"):
        find_layers(nn.Linear(3, 3), "mine", (1, 3))


def test_a_network_that_fails_is_named():
    layers, _ = find_layers(small_net(), "net", (1, 3, 8, 8))
    with pytest.raises(LMBError, match=r"net: it does not run on images of \(1, 4, 8, 8\)"):
        read_sizes(small_net(), layers, torch.rand(1, 4, 8, 8), "net")
