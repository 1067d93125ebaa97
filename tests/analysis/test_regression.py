# SPDX-License-Identifier: Apache-2.0
"""Explained variance on held-out pixels: of what is known, of noise, and where nothing can be said."""

import math

import pytest
import torch

from lmb_quant.analysis.bits import survival
from lmb_quant.analysis.colour import PLANES, planes_at, regions_at
from lmb_quant.analysis.regression import COLOURS, REGIONS, draw, explained
from lmb_quant.analysis.thresholds import WAY, Means


def sample_of(x, rgb=None):
    rgb = torch.rand(len(x), 3, *x.shape[2:]) if rgb is None else rgb
    size = tuple(x.shape[2:])
    return draw(Means(x), planes_at(rgb, size), regions_at(rgb, size))


def test_values_explain_themselves():
    x = torch.randn(2, 4, 32, 32)
    found = explained(x, sample_of(x))
    assert found["features"] > 0.999
    assert found["detail"] > 0.5  # 3 x 3 of the 5 x 5 values that it is made of


def test_noise_is_not_explained_by_other_noise():
    x = torch.randn(2, 4, 48, 48)
    found = explained(torch.randn(2, 4, 48, 48), sample_of(x))
    assert abs(found["features"]) < 0.1


def test_held_out_pixels_are_in_the_right_half_and_decide():
    x = torch.randn(1, 4, 32, 32)
    sample = sample_of(x)
    assert bool((sample.places[2][sample.fit] < 16).all())
    assert bool((sample.places[2][~sample.fit] >= 16).all())
    given = x.clone()
    given[..., 18:] = -given[..., 18:]  # what was learned at the left is wrong here
    assert explained(given, sample)["features"] < -1


def test_colour_is_lost_with_it():
    rgb = torch.rand(2, 3, 32, 32)
    gray = rgb.mean(1, keepdim=True).expand(-1, 4, -1, -1) + torch.randn(2, 4, 32, 32) * 1e-3
    found = explained(gray * 10, sample_of(gray, rgb))
    assert found["colour"] < 0.5 < explained((rgb - 0.5) * 3, sample_of(rgb, rgb))["colour"]
    assert set(COLOURS) == {*PLANES, "colour"}


def test_regions_follow_local_variance():
    rgb = torch.full((1, 3, 24, 24), 0.5)
    rgb[..., 12:] = 1.0
    rgb[..., :8, :6] += 0.05 * torch.randn(1, 1, 8, 6)
    regions = regions_at(rgb, (24, 24))[0]
    assert REGIONS[regions[16, 12]] == "edges"
    assert REGIONS[regions[4, 3]] == "texture"
    assert REGIONS[regions[20, 2]] == "flat"


def test_too_few_pixels_give_words_and_no_number():
    x = torch.randn(1, 8, 3, 3)
    sample = sample_of(x)
    assert "pixels are too few" in sample.words
    assert all(math.isnan(value) for value in explained(x, sample).values())


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 1, 1, 4), (1, 3, 4, 1)])
def test_tiny_maps_are_no_error(shape):
    x = torch.randn(shape)
    found = survival(WAY["local3"].make(Means(x)), Means(x), sample_of(x))
    assert math.isnan(found.explained)
    assert 0 <= found.entropy <= 1


def test_constant_activations_explain_nothing_and_are_not_explained():
    x = torch.full((1, 4, 24, 24), 2.0)
    found = survival(WAY["zero"].make(Means(x)), Means(x), sample_of(x))
    assert (found.entropy, found.constant) == (0, 1)
    assert math.isnan(found.explained)
    assert math.isnan(found.near)


def test_entropy_and_near_of_known_bits():
    x = torch.tensor([-2.0, -1.0, 1.0, 2.0]).repeat(16).view(1, 1, 8, 8)
    found = survival(WAY["zero"].make(Means(x)), Means(x), sample_of(x))
    assert found.entropy == pytest.approx(1)
    assert found.near == 0
    assert survival(WAY["zero"].make(Means(x + 2)), Means(x + 2), sample_of(x)).near == 0.25
