# SPDX-License-Identifier: Apache-2.0
"""Images through networks that the engine runs in one call: bytes in, bytes out."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.ops._library import find
from lmb_quant.ops.network import EngineNetwork
from lmb_quant.upscaling import Upscaler

from .conftest import make_network

pytestmark = pytest.mark.skipif(find()[0] is None, reason="no engine")


@pytest.fixture
def bytes_runs(monkeypatch):
    """Sizes of the pixels that the engine made bytes of."""
    sizes, run = [], EngineNetwork.run_bytes

    def noted(self, pixels, out):
        sizes.append(pixels.shape)
        return run(self, pixels, out)

    monkeypatch.setattr(EngineNetwork, "run_bytes", noted)
    return sizes


def packed(arch="srresnet", **options):
    return lmb.convert(make_network(arch, **options))


def by_modules(net, image, **options):
    """The result where a hook looks on."""
    handle = net.register_forward_hook(lambda module, args, y: None)
    try:
        return lmb.upscale(net, image, **options)
    finally:
        handle.remove()


def picture(*size):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, size, np.uint8)


FORMS = {
    "packed": packed,
    "float": lambda: make_network(recipe=None),
    "hybrid": lambda: packed("hybrid"),
    "one channel": lambda: packed("vdsr", num_in_ch=1, num_out_ch=1, upscale=3),
}


@pytest.mark.parametrize("form", FORMS)
def test_bytes_differ_from_those_of_the_modules_by_one_level_at_most(form, bytes_runs):
    net = FORMS[form]()
    channels = 1 if form == "one channel" else 3
    for size in [(1, 1), (7, 30), (40, 33)]:
        image = picture(*size, channels)
        y, expected = lmb.upscale(net, image), by_modules(net, image)
        assert y.dtype == np.uint8
        assert y.shape == expected.shape
        assert np.abs(y.astype(int) - expected).max() <= 1
    assert bytes_runs == [(1, 1, channels), (7, 30, channels), (40, 33, channels)]


def test_tiles_are_the_whole_image_to_the_bit(bytes_runs):
    net, image = packed(), picture(61, 70, 3)
    whole = lmb.upscale(net, image)
    for threads in (1, 3):
        assert np.array_equal(lmb.upscale(net, image, tile=16, threads=threads), whole)
    assert len(bytes_runs) == 1 + 2 * 4 * 5


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[::-1, ::-1, ::-1],
        lambda image: np.asfortranarray(image),
        lambda image: np.repeat(image, 2, 1)[:, ::2],
        lambda image: np.concatenate([image, image], 2)[..., 1:4],
    ],
    ids=["backwards", "fortran", "every second", "channels of more"],
)
def test_any_layout_of_an_array(change, bytes_runs):
    net, image = packed(), change(picture(20, 21, 3))
    image.setflags(write=False)
    assert np.array_equal(lmb.upscale(net, image), lmb.upscale(net, np.ascontiguousarray(image)))
    assert len(bytes_runs) == 2


def test_other_kinds_of_pictures_equal_those_of_the_modules(bytes_runs):
    net, alpha = packed(), picture(20, 21, 4)
    gray, deep = picture(20, 21), np.random.default_rng(1).integers(0, 65536, (20, 21, 3), np.uint16)
    for image, tolerance in ((alpha, 1), (gray, 1), (deep, 16), (np.repeat(gray[..., None], 3, 2), 1)):
        assert np.abs(lmb.upscale(net, image).astype(int) - by_modules(net, image)).max() <= tolerance
    assert not bytes_runs
    image = Image.fromarray(picture(9, 8, 3))
    y = lmb.upscale(net, image)
    assert np.array_equal(np.asarray(y), lmb.upscale(net, np.asarray(image)))
    assert len(bytes_runs) == 2


def test_traits_are_those_of_a_trial_run():
    for net in (packed(), packed("vdsr", upscale=2), packed("hybrid", upscale=3)):
        ours = Upscaler(net).traits
        net.register_forward_hook(lambda module, args, y: None)
        tried = Upscaler(net).traits
        assert (ours.channels, ours.upscale, ours.reach, ours.sees_all, ours.alignment) == (
            tried.channels, tried.upscale, tried.reach, tried.sees_all, tried.alignment
        )  # fmt: skip


def test_what_is_not_finite_is_an_error():
    net = packed()
    with torch.no_grad():
        net.tail[0].bias[3] = torch.inf
    with pytest.raises(LMBError, match="its result for an image of 5 x 6 has NaN or infinities"):
        lmb.upscale(net, picture(5, 6, 3))
    with pytest.raises(LMBError, match="its result for an image of 5 x 6 has NaN or infinities"):
        lmb.upscale(net, torch.rand(3, 5, 6))


def test_an_upscaler_keeps_the_modules_that_it_was_given():
    net, image = packed(), picture(9, 8, 3)
    upscaler = Upscaler(net)
    before = upscaler(image)
    net.body = nn.Identity()
    assert np.array_equal(upscaler(image), before)
    with torch.no_grad():
        net.tail[0].bias.add_(0.5)
    assert not np.array_equal(upscaler(image), before), "the tensors are shared"


def test_progress_is_told():
    seen = []
    lmb.upscale(packed(), picture(61, 40, 3), tile=16, progress=lambda done, tiles: seen.append((done, tiles)))
    assert seen == [(done, 12) for done in range(1, 13)]


def test_many_images_get_a_thread_each_as_far_as_memory_allows():
    upscaler = Upscaler(packed(), threads=4)
    each, count = upscaler.for_many(24 * 16)
    assert (each.threads, count, upscaler.threads) == (1, 4, 4)
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    np.testing.assert_array_equal(each(image), upscaler(image))
    assert upscaler.for_many(1 << 30) == (upscaler, 1)
    others = Upscaler(nn.Upsample(scale_factor=2), threads=4)  # which the engine does not run
    assert others.for_many(24 * 16) == (others, 1)
