# SPDX-License-Identifier: Apache-2.0
"""Advice: fragile layers are spared, for the measured reason, and the network is the better for it."""

import dataclasses

import pytest
import torch
from helpers import binary, recipe
from torch.nn import functional as F

from lmb_quant import LMBError, Recipe, binarize, plan
from lmb_quant.analysis import advise, analyze, source_of
from lmb_quant.analysis.sensitivity import WAYS as MEASURED
from lmb_quant.analysis.sensitivity import Effect
from lmb_quant.archs import LMBSRResNet
from lmb_quant.modules import BinaryConv2d

from .conftest import picture


def network(photographs, *, fragile=None):
    torch.manual_seed(0)
    net = LMBSRResNet(num_feat=8, num_block=4, upscale=2, recipe=None)
    torch.nn.init.normal_(net.tail[0].weight, std=0.1)
    if fragile is not None:
        with torch.no_grad():
            net.get_submodule(fragile).weight.mul_(40)
    return net, analyze([source_of(net, "net")], photographs, side=24).networks[0]


def with_errors(found, errors):
    """The figures with other output errors: by layer, those of local3, local7 and gain3."""
    layers = []
    for layer in found.layers:
        costs = (0.1, *errors.get(layer.name, (0.1, 0.1, 0.1)))
        effects = {way: Effect(cost, (), 0.0) for way, cost in zip(MEASURED, costs, strict=True)}
        layers.append(dataclasses.replace(layer, effects=effects if layer.is_body else {}))
    return dataclasses.replace(found, layers=tuple(layers))


def test_each_fragile_layer_gets_what_helps_it(photographs):
    net, found = network(photographs)
    errors = {"body.0.conv1": (0.9, 0.15, 0.3), "body.1.conv1": (0.9, 0.8, 0.1), "body.2.conv2": (0.9, 0.8, 0.7)}
    advice = advise(with_errors(found, errors))
    assert [(decision.layer, decision.kind) for decision in advice.decisions] == [
        ("body.0.conv1", "window"),
        ("body.1.conv1", "gain"),
        ("body.2.conv2", "float"),
    ]
    lines = [line for line in advice.text.splitlines() if "match" in line]
    assert "0.900, 9.0 times the median; 0.150 with local mean 7 x 7" in lines[0]
    made = binarize(net, advice.recipe)
    assert "body.2.conv2" not in binary(made)
    assert len(binary(made)) == 7
    assert made.body[0].conv1.config.activation_options["window"] == 7
    assert made.body[1].conv1.config.activation_options["gain"] == "channel"
    assert made.body[0].conv2.config.activation_options["gain"] == "none"


def test_without_fragile_layers_the_recipe_stays_as_it_is(photographs):
    net, found = network(photographs)
    advice = advise(with_errors(found, {}))
    assert advice.decisions == ()
    assert "No layer is fragile" in advice.text
    assert len(plan(net, advice.recipe).binary) == 8


def test_the_plain_recipe_keeps_its_own_overrides_behind_the_advice(photographs, tmp_path):
    net, found = network(photographs)
    own = recipe("sign", overrides=[{"match": "body.0.*", "unit": {"act": "prelu"}}])
    path = tmp_path / "own.yaml"
    path.write_text(Recipe.load(own).to_yaml())
    figures = with_errors(found, {})
    worst = dataclasses.replace(figures.layers[3], effects=figures.layers[3].effects | {"zero": Effect(0.9, (), 0.0)})
    figures = dataclasses.replace(figures, layers=(*figures.layers[:3], worst, *figures.layers[4:]))
    advice = advise(figures, path)
    assert [override.match for override in advice.recipe.overrides] == [worst.name, "body.0.*"]
    assert advice.recipe.overrides[0].activation.binarizer == "local_mean"
    assert plan(net, advice.recipe).binary


def test_what_cannot_be_advised(photographs):
    _, found = network(photographs)
    with pytest.raises(LMBError, match=r"recipe 'reactnet': activation 'rsign' .* is not allowed"):
        advise(found, "reactnet")
    with pytest.raises(LMBError, match=r"no layer's bits change its result"):
        advise(with_errors(found, {layer.name: (0.0, 0.0, 0.0) for layer in found.layers}))
    binary_net = analyze([source_of("lmb_small_x4")], photographs, side=16).networks[0]
    with pytest.raises(LMBError, match=r"lmb_small_x4 has binary layers. Allowed: a float network"):
        advise(binary_net)


@pytest.mark.train
def test_the_advised_recipe_beats_the_plain_one_where_a_layer_is_fragile(photographs):
    """Both are trained alike to do what the float network does."""
    net, found = network(photographs, fragile="body.1.conv1")
    advice = advise(found)
    assert "body.1.conv1" in [decision.layer for decision in advice.decisions] or "body.1.conv2" in [
        decision.layer for decision in advice.decisions
    ]
    images = torch.stack([torch.from_numpy(picture(i, 24, 24)).permute(2, 0, 1).float() / 255 for i in range(4)])
    with torch.no_grad():
        wanted = net(images)
    errors = {}
    for name, chosen in (("plain", "lmb"), ("advised", advice.recipe)):
        student, _ = network(photographs, fragile="body.1.conv1")
        student = binarize(student, chosen)
        assert any(isinstance(module, BinaryConv2d) for module in student.modules())
        optimizer = torch.optim.Adam(student.parameters(), 3e-3)
        for _ in range(80):
            loss = F.mse_loss(student(images), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[name] = float(loss.detach())
    assert errors["advised"] < 0.8 * errors["plain"], errors
