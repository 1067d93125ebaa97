# SPDX-License-Identifier: Apache-2.0
"""Tiles give what the whole image gives."""

import warnings

import pytest
import torch
from helpers import recipe
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.network import Traits
from lmb_quant.upscaling.tiles import automatic_side, cut

from .conftest import make_network

TOLERANCE = 1e-6  # float32 rounding: a convolution may add up differently at another size


def difference(net, size, tile, **options):
    image = torch.rand(net(torch.rand(1, 3, 4, 4)).shape[1], *size)
    return float((lmb.upscale(net, image, tile=tile, **options) - lmb.upscale(net, image, tile=10**6)).abs().max())


@pytest.mark.parametrize("upscale", [2, 3, 4])
@pytest.mark.parametrize("kind", ["srresnet", "vdsr"])
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (1, 61), (40, 64)])
def test_packed_networks(kind, upscale, size):
    net = lmb.convert(make_network(kind, upscale=upscale))
    assert difference(net, size, 7) <= TOLERANCE
    assert difference(net, size, 16) <= TOLERANCE


@pytest.mark.parametrize(
    "options", [{"tail": "classic"}, {"recipe": recipe(activation={"window": 9})}, {"recipe": None}]
)
def test_other_srresnets(options):
    net = make_network(**options)
    assert difference(net.eval(), (53, 67), 8) <= TOLERANCE


def test_an_integer_image_is_equal_in_every_value():
    net = lmb.convert(make_network("vdsr", upscale=3))
    image = (torch.rand(61, 47, 3) * 255).round().to(torch.uint8).numpy()
    assert (lmb.upscale(net, image, tile=9) == lmb.upscale(net, image, tile=100)).all()


def test_less_overlap_than_the_network_sees_shows():
    net = lmb.convert(make_network())
    assert difference(net, (40, 40), 8, overlap=1) > 1e-3


def test_a_strided_network_keeps_its_phase():
    net = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 48, 3, padding=1), nn.PixelShuffle(4))
    assert difference(net, (36, 42), 7) <= TOLERANCE
    assert difference(net, (36, 42), 5) <= TOLERANCE


def test_a_global_window_warns_once():
    net = lmb.convert(make_network(recipe=recipe(activation={"window": "global"})))
    upscaler = Upscaler(net, tile=8)
    upscaler(torch.rand(3, 20, 20))  # covered by one tile and its surroundings
    with pytest.warns(UserWarning, match="differs from that of the whole image"):
        upscaler(torch.rand(3, 60, 60))
    upscaler(torch.rand(3, 60, 60))


def test_a_chosen_overlap_does_not_warn():
    net = lmb.convert(make_network(recipe=recipe(activation={"window": "global"})))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lmb.upscale(net, torch.rand(3, 60, 60), tile=8, overlap=2).shape == (3, 120, 120)


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (31, 17)])
@pytest.mark.parametrize(("tile", "overlap", "alignment"), [(1, 0, 1), (5, 3, 1), (7, 3, 4), (64, 2, 1)])
def test_inner_parts_cover_each_pixel_once(size, tile, overlap, alignment):
    covered = torch.zeros(size, dtype=torch.int64)
    for part in cut(*size, tile, overlap, alignment):
        top, bottom, left, right = part.inner
        covered[top:bottom, left:right] += 1
        y0, y1, x0, x1 = part.outer
        assert y0 % alignment == x0 % alignment == 0
        assert y0 <= max(0, top - overlap)
        assert x0 <= max(0, left - overlap)
        assert y1 >= min(size[0], bottom + overlap)
        assert x1 >= min(size[1], right + overlap)
    assert bool((covered == 1).all())


def test_automatic_tiles_need_about_two_gibibytes():
    traits = Traits(channels=3, upscale=4, reach=68, sees_all=False, alignment=1, bytes_per_pixel=256.0)
    side = automatic_side(traits, 68, 1) + 2 * 68
    assert 1.9 * 2**30 < 3 * 256 * side**2 <= 2**31
    assert automatic_side(traits, 68, 4) < side / 2


@pytest.mark.parametrize(
    ("name", "value"), [("tile", 0), ("tile", 1.5), ("tile", True), ("overlap", -1), ("threads", 0), ("threads", "2")]
)
def test_arguments_are_checked(name, value):
    with pytest.raises(LMBError, match=f"{name}: .* is not allowed. Allowed: a whole number"):
        lmb.upscale(nn.Upsample(scale_factor=2), torch.rand(3, 4, 4), **{name: value})


def test_progress_counts_tiles():
    seen = []
    lmb.upscale(nn.Upsample(scale_factor=2), torch.rand(3, 20, 12), tile=8, progress=lambda *step: seen.append(step))
    assert seen == [(done, 6) for done in range(1, 7)]
