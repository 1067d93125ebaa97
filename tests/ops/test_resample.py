# SPDX-License-Identifier: Apache-2.0
"""Upscaling: PyTorch's, but the same at every position."""

import pytest
import torch
from torch.nn import functional as F

from lmb_quant.ops.resample import upscale_image, upscale_with_detail


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (11, 13)])
def test_equals_interpolate(mode, upscale, size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=upscale, mode=mode, align_corners=False)
    torch.testing.assert_close(upscale_image(x, upscale, mode), expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_a_part_is_upscaled_as_in_the_image_to_the_bit(mode, upscale, threads):
    x = torch.rand(1, 3, 40, 40)
    whole, part = upscale_image(x, upscale, mode), upscale_image(x[:, :, 7:29, 18:], upscale, mode)
    inner = slice(2 * upscale, -2 * upscale)
    rows, columns = slice(7 * upscale, 29 * upscale), slice(18 * upscale, None)
    if mode == "bilinear" and threads > 1 and upscale != 3:
        torch.testing.assert_close(part[:, :, inner, inner], whole[:, :, rows, columns][:, :, inner, inner])
    else:
        assert torch.equal(part[:, :, inner, inner], whole[:, :, rows, columns][:, :, inner, inner])


def test_gradient():
    x = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: upscale_image(x, 3, "bicubic"), x)


def expected_with_detail(x, detail, upscale, alpha):
    base = F.interpolate(x.double(), scale_factor=upscale, mode="bilinear", align_corners=False)
    return (base + alpha * F.pixel_shuffle(detail.double(), upscale)).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)  # by the engine, and not
@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(2, 3, 1, 1), (1, 1, 1, 7), (1, 3, 11, 13), (3, 4, 6, 2)], ids=str)
def test_detail_is_added_to_the_upscaled_image(size, upscale, dtype):
    n, c, height, width = size
    x, detail = torch.randn(size, dtype=dtype), torch.randn(n, c * upscale**2, height, width, dtype=dtype)
    y = upscale_with_detail(x, detail, upscale, 0.3)
    torch.testing.assert_close(y, expected_with_detail(x, detail, upscale, 0.3), rtol=1e-5, atol=1e-5)
    channels_last = (v.contiguous(memory_format=torch.channels_last) for v in (x, detail))
    assert torch.equal(upscale_with_detail(*channels_last, upscale, 0.3), y)


@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_a_part_with_detail_is_as_in_the_image_to_the_bit(upscale, threads):
    x, detail = torch.rand(1, 3, 40, 40), torch.randn(1, 3 * upscale**2, 40, 40)
    whole = upscale_with_detail(x, detail, upscale, 0.1)
    part = upscale_with_detail(x[:, :, 7:29, 18:], detail[:, :, 7:29, 18:], upscale, 0.1)
    inner = slice(upscale, -upscale)
    rows, columns = slice(7 * upscale, 29 * upscale), slice(18 * upscale, None)
    assert torch.equal(part[:, :, inner, inner], whole[:, :, rows, columns][:, :, inner, inner])


def test_nothing_is_lost_in_an_empty_batch():
    assert upscale_with_detail(torch.rand(0, 3, 5, 5), torch.rand(0, 48, 5, 5), 4, 1.0).shape == (0, 3, 20, 20)
