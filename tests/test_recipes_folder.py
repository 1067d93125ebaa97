# SPDX-License-Identifier: Apache-2.0
"""recipes/*.yaml: each loads, is named after its file, says its source, and binarises a network that then trains."""

from importlib.resources import files

import pytest
import torch
from helpers import binary, small_net

import lmb_quant as lmb
from lmb_quant.recipe import recipe_names

NAMES = recipe_names()


@pytest.mark.parametrize("name", NAMES)
def test_named_after_its_file_with_description_and_source(name):
    loaded = lmb.Recipe.load(name)
    assert loaded.metadata.name == name
    assert loaded.metadata.description
    assert any(word in loaded.metadata.source for word in ("doi", "arXiv", "this project"))


@pytest.mark.parametrize("name", NAMES)
def test_path_and_name_give_the_same(name):
    path = files("lmb_quant").joinpath("recipes", f"{name}.yaml")
    assert lmb.Recipe.load(str(path)) == lmb.Recipe.load(name)
    assert path.read_text(encoding="utf-8").startswith("#")


@pytest.mark.parametrize("name", NAMES)
def test_binarises_and_trains(name):
    net = lmb.binarize(small_net(), name)
    assert binary(net) == ["2", "4"]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    x, losses = torch.rand(2, 3, 12, 12), []
    for _ in range(15):
        loss = (net(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_controls_differ_from_lmb_in_the_threshold_only():
    """A comparison of binarisers is one only where all else is equal."""
    plain = {name: lmb.Recipe.load(name).to_dict() for name in ("lmb", "lmb-k5", "sign", "rsign")}
    for data in plain.values():
        data.pop("metadata")
        data["scheme"].pop("activation")
    assert all(data == plain["lmb"] for data in plain.values())
