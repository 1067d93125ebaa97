# SPDX-License-Identifier: Apache-2.0
"""Variances that add up, kurtosis, and maps that do not vary."""

import math

import pytest
import torch

from lmb_quant.analysis.statistics import constant_maps, spread


def test_the_parts_of_the_variance_add_up():
    x = torch.randn(3, 5, 7, 6) * torch.arange(1, 6).view(1, -1, 1, 1) + torch.randn(3, 5, 1, 1) * 4
    found = spread(x)
    assert found.variance == pytest.approx(float(x.double().var(correction=0)), rel=1e-9)
    assert sum(found.share(part) for part in ("pixels", "channels", "images")) == pytest.approx(1)
    assert found.mean == pytest.approx(float(x.double().mean()))


@pytest.mark.parametrize("part", ["pixels", "channels", "images"])
def test_each_part_is_what_its_name_says(part):
    dim = {"pixels": 3, "channels": 1, "images": 0}[part]
    shape = [1, 1, 1, 1]
    shape[dim] = 4
    x = torch.arange(4.0).view(shape).expand(4, 4, 4, 4)
    found = spread(x)
    assert getattr(found, part) == pytest.approx(1.25)
    assert found.variance == pytest.approx(1.25)


def test_kurtosis_of_known_distributions():
    normal = spread(torch.randn(1, 4, 200, 200, generator=torch.Generator().manual_seed(1)))
    assert abs(normal.kurtosis) < 0.05
    two_values = torch.tensor([-1.0, 1.0]).repeat(8).view(1, 1, 4, 4)
    assert spread(two_values).kurtosis == pytest.approx(-2)


def test_constant_maps_have_no_kurtosis_and_are_counted():
    x = torch.randn(1, 4, 5, 5)
    x[:, 1:] = 3.0
    assert constant_maps(x).tolist() == [[False, True, True, True]]
    found = spread(x)
    assert found.constant == 0.75
    assert math.isfinite(found.kurtosis)
    nothing = spread(torch.full((2, 2, 3, 3), 0.1))
    assert math.isnan(nothing.kurtosis)
    assert math.isnan(nothing.share("pixels"))


def test_a_map_of_one_pixel_varies_over_channels_only():
    found = spread(torch.arange(6.0).view(1, 6, 1, 1))
    assert (found.pixels, found.images) == (0, 0)
    assert found.channels > 0
    assert math.isnan(found.kurtosis)
