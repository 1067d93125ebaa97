# SPDX-License-Identifier: Apache-2.0
"""Latent weights, and those that change their sign from checkpoint to checkpoint."""

import math

import pytest
import torch
from helpers import binary, chain, conv

from lmb_quant import LMBError, binarize, convert
from lmb_quant.analysis.layers import find_layers
from lmb_quant.analysis.weights import flips, weight_figures

from .conftest import needs_basicsr


def test_figures_of_known_weights():
    layer = conv(1, 1, 1)
    layer.weight.data = torch.tensor([0.01, -1.0, 1.99, -1.0]).view(1, 4, 1, 1)
    found = weight_figures(layer)
    assert found.magnitude == pytest.approx(1)
    assert (found.positive, found.undecided) == (0.5, 0.25)
    torch.nn.init.zeros_(layer.weight)
    assert math.isnan(weight_figures(layer).kurtosis)


def test_packed_layers_have_no_latent_weights():
    assert weight_figures(convert(binarize(chain(3, 8, 8, 3), "lmb").eval())[2]) is None


@needs_basicsr
def test_signs_are_those_that_compute(tmp_path):
    net = binarize(chain(3, 8, 8, 3), "irnet")  # its binary weights are the signs of w - mean(w)
    layers, _ = find_layers(net, "net", (1, 3, 8, 8))
    paths = [tmp_path / "net_g_1.pth", tmp_path / "net_g_2.pth"]
    torch.save({"params": net.state_dict()}, paths[0])
    net[2].weight.data += 10
    torch.save({"params": net.state_dict()}, paths[1])
    assert flips(paths, layers)[0].ratios == {"2": 0}


@needs_basicsr
def test_flips_are_counted(tmp_path):
    net = binarize(chain(3, 8, 8, 8, 3), "lmb")
    layers, _ = find_layers(net, "net", (1, 3, 8, 8))
    paths = []
    for iteration in (10, 20, 30):
        paths.append(tmp_path / f"net_g_{iteration}.pth")
        torch.save({"params": net.state_dict()}, paths[-1])
        net[2].weight.data[:2] *= -1
    found = flips(paths, layers)
    assert [(flip.first, flip.last) for flip in found] == [(10, 20), (20, 30)]
    assert set(found[0].ratios) == set(binary(net))
    assert found[0].ratios["2"] == pytest.approx(0.25)
    assert found[0].ratios["4"] == 0
    assert found[0].total == pytest.approx(0.125)
    assert flips(paths[:1], layers) == []
    torch.save({"params": binarize(chain(3, 8, 9, 8, 3), "lmb").state_dict()}, paths[0])
    with pytest.raises(LMBError, match=r"net_g_10.pth: it is no checkpoint of this network: 2: "):
        flips(paths, layers)
    torch.save({"params": {}}, paths[0])
    with pytest.raises(LMBError, match=r"net_g_10.pth: it is no checkpoint of this network: it lacks '2.weight'"):
        flips(paths, layers)
