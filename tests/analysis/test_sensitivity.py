# SPDX-License-Identifier: Apache-2.0
"""What the result loses by one layer's bits."""

import math

import pytest
import torch
from helpers import chain, recipe
from torch import nn

from lmb_quant import binarize, convert
from lmb_quant.analysis.images import Inputs
from lmb_quant.analysis.layers import find_layers
from lmb_quant.analysis.sensitivity import WAYS, Bench, fitted_bits
from lmb_quant.analysis.thresholds import WAY, Means, bits_by


def bench_of(net, x, original=None):
    with torch.no_grad():
        bench = Bench.of(net, "net", Inputs(("a",), x, x, original))
    return bench, {layer.name: layer for layer in find_layers(net, "net", (1, *x.shape[1:]))[0]}


def test_fitted_bits_are_the_best_by_least_squares():
    x = torch.randn(2, 3, 6, 6) * 3 + 1
    threshold = WAY["local3"].make(Means(x))
    made, bits = fitted_bits(x, threshold), bits_by(threshold, x).float() * 2 - 1
    for c in range(3):
        design = torch.stack([bits[:, c].flatten(), torch.ones(72)], 1)
        best = design @ torch.linalg.lstsq(design, x[:, c].flatten()).solution
        torch.testing.assert_close(made[:, c].flatten(), best, rtol=1e-4, atol=1e-4)


def test_fitted_bits_of_a_constant_are_the_constant():
    x = torch.full((1, 2, 4, 4), 3.0)
    assert torch.equal(fitted_bits(x, WAY["zero"].make(Means(x))), x)


def test_the_effect_is_that_of_replaced_activations():
    net, x = chain(3, 8, 8, 3).eval(), torch.rand(2, 3, 12, 12)
    bench, layers = bench_of(net, x)
    with torch.no_grad():
        read = net[:2](x)
        changed = net[2:](fitted_bits(read, WAY["zero"].make(Means(read))))
        plain = net(x)
        effect = bench.effect(layers["2"], "zero")
    expected = ((changed - plain).square().mean() / plain.var(correction=0)).sqrt()
    assert effect.error == pytest.approx(float(expected), rel=1e-4)
    assert len(effect.planes) == 3
    with torch.no_grad():
        assert torch.equal(net(x), plain), "the hooks must be gone"


@pytest.mark.parametrize("form", ["binary", "packed"])
def test_a_binary_layer_with_its_own_threshold_changes_nothing(form):
    net = binarize(chain(3, 8, 8, 8, 3), recipe("lmb", unit={"skip": "none"})).eval()
    net = convert(net) if form == "packed" else net
    bench, layers = bench_of(net, torch.rand(2, 3, 12, 12))
    with torch.no_grad():
        effects = {way: bench.effect(layers["2"], way).error for way in WAYS}
    assert effects["local3"] == pytest.approx(0, abs=1e-6)
    assert effects["zero"] > 1e-3


def test_both_forms_of_a_binary_network_lose_alike():
    net = binarize(chain(3, 8, 8, 8, 3), "lmb").eval()
    x = torch.rand(2, 3, 12, 12)
    errors = []
    for form in (net, convert(net)):
        bench, layers = bench_of(form, x)
        with torch.no_grad():
            errors.append(bench.effect(layers["4"], "gain3").error)
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_loss_of_classification_is_the_share_of_other_answers():
    net = nn.Sequential(*chain(3, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    bench, layers = bench_of(net, torch.rand(4, 3, 12, 12))
    with torch.no_grad():
        effect = bench.effect(layers["2"], "zero")
    assert effect.planes == ()
    assert effect.loss in (0, 0.25, 0.5, 0.75, 1)


def test_a_constant_result_has_no_error_in_its_spread():
    net = chain(3, 8, 3).eval()
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    bench, layers = bench_of(net, torch.rand(1, 3, 8, 8))
    with torch.no_grad():
        assert math.isnan(bench.effect(layers["0"], "zero").error)
