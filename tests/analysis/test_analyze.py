# SPDX-License-Identifier: Apache-2.0
"""The whole analysis on small networks: what it finds, and what it says where there is nothing to find."""

import math

import pytest
import torch
from helpers import chain, conv
from torch import nn

from lmb_quant import LMBError, binarize, convert
from lmb_quant.analysis import analyze, source_of
from lmb_quant.analysis.sensitivity import WAYS as MEASURED
from lmb_quant.analysis.summary import mean_of, ranking, summarize
from lmb_quant.analysis.thresholds import OWN, WAYS


class Doubling(nn.Module):
    """x2 by repetition, with convolutions in front."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return nn.functional.interpolate(x + self.body(x), scale_factor=2)


def analyzed(body, photographs, **options):
    return analyze([source_of(Doubling(body), "net")], photographs, side=24, **options).networks[0]


def test_a_float_network_has_every_figure(photographs):
    told = []
    found = analyzed(chain(3, 8, 8, 8, 3), photographs, tell=lambda *what: told.append(what))
    assert [layer.name for layer in found.layers] == ["body.0", "body.2", "body.4", "body.6"]
    assert [layer.name for layer in found.body] == ["body.2", "body.4"]
    assert found.layers[0].roles == ("first",)
    assert (found.upscale, found.input_size, found.notes) == (2, (2, 3, 24, 24), ())
    for layer in found.body:
        assert set(layer.ways) == {way.name for way in WAYS}
        assert set(layer.effects) == set(MEASURED)
        assert all(math.isfinite(way.explained) for way in layer.ways.values())
        assert all(effect.error > 0 and len(effect.planes) == 3 for effect in layer.effects.values())
        assert layer.words == ()
    assert told[-1] == ("net", 4, 4)
    assert [picture.layer for picture in found.pictures] == ["body.2", "body.4"]


def test_it_is_the_same_at_each_run_and_leaves_the_network_as_it_was(photographs):
    source = source_of(Doubling(chain(3, 4, 4, 3)).train(), "net")
    before = {name: value.clone() for name, value in source.network.state_dict().items()}
    first, second = (analyze([source], photographs, side=16).networks[0] for _ in range(2))
    assert [layer.ways for layer in first.layers] == [layer.ways for layer in second.layers]
    assert [layer.effects for layer in first.layers] == [layer.effects for layer in second.layers]
    assert all(torch.equal(value, before[name]) for name, value in source.network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in source.network.modules())


@pytest.mark.parametrize("form", ["binary", "packed"])
def test_binary_layers_have_their_own_threshold(form, photographs):
    body = binarize(chain(3, 8, 8, 3), "lmb").eval()
    found = analyzed(convert(body) if form == "packed" else body, photographs)
    (layer,) = found.body
    assert layer.kind == form
    assert layer.ways[OWN] == layer.ways["local3"]
    assert layer.effects["local3"].error == pytest.approx(0, abs=1e-6)
    assert (layer.weights is None) == (form == "packed")


def test_nan_is_said(photographs):
    body = chain(3, 4, 4, 3)
    body[0].bias.data[0] = math.nan
    with pytest.raises(LMBError, match=r"net: .*NaN"):
        analyzed(body, photographs)
    classifier = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = analyze([source_of(classifier, "net")], photographs, side=16).networks[0]
    assert found.layers[0].spread is not None
    assert "are NaN or infinite, so it has no figures" in found.layers[1].words[0]
    assert found.layers[1].ways == {}
    assert "NaN or infinities" in found.notes[0]


def test_constant_activations_are_said(photographs):
    body = chain(3, 4, 4, 3)
    nn.init.zeros_(body[0].weight)
    found = analyzed(body, photographs)
    layer = found.layers[1]
    assert "all its maps are constant" in layer.words[0]
    assert layer.spread.constant == 1
    assert math.isnan(layer.ways["zero"].explained)


def test_maps_of_one_pixel_are_said(photographs):
    net = nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), conv(4, 4), nn.Flatten(), nn.Linear(4, 2))
    found = analyze([source_of(net, "net")], photographs, side=16).networks[0]
    assert any("maps are of one pixel" in word for word in found.layers[1].words)
    assert any("pixels are too few" in word for word in found.layers[1].words)


class WithIdle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.again, self.idle = conv(3, 3), conv(3, 3), conv(3, 3)

    def forward(self, x):
        return self.again(self.again(self.used(x)))


def test_layers_that_never_run_and_those_that_run_again_are_said(photographs):
    found = analyzed(WithIdle(), photographs)
    words = {layer.name: " ".join(layer.words) for layer in found.layers}
    assert "did not run" in words["body.idle"]
    assert "runs 2 times" in words["body.again"]
    assert words["body.used"] == ""


def test_a_network_of_which_no_convolution_runs(photographs):
    class Idle(WithIdle):
        def forward(self, x):
            return x * self.used.weight.mean()

    with pytest.raises(LMBError, match=r"net: none of its 3 convolutions ran"):
        analyzed(Idle(), photographs)


def test_a_result_that_no_layer_changes_is_said(photographs):
    body = chain(3, 4, 4, 3)
    nn.init.zeros_(body[4].weight)
    assert "No layer's bits change its result" in analyzed(body, photographs).notes[0]


def test_what_is_asked_wrongly(photographs):
    source = source_of(Doubling(chain(3, 4, 3)), "net")
    with pytest.raises(LMBError, match=r"photographs: there are none"):
        analyze([source], [])
    with pytest.raises(LMBError, match=r"'net' is named twice"):
        analyze([source, source], photographs)


def test_summary_and_ranking(photographs):
    found = analyzed(chain(3, 8, 8, 8, 3), photographs)
    short = summarize(found)
    assert short.layers == 2
    assert short.ways["zero"].entropy == pytest.approx(mean_of(layer.ways["zero"].entropy for layer in found.body))
    errors = [layer.effects["zero"].error for layer in ranking(found)]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 4
    assert mean_of([1.0, math.nan, 3.0]) == 2
    assert math.isnan(mean_of([math.nan]))
