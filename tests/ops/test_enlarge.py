# SPDX-License-Identifier: Apache-2.0
"""Enlargement: PyTorch's, but the same at every position."""

import pytest
import torch
from torch.nn import functional as F

from lmb_quant.ops.enlarge import enlarge


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (11, 13)])
def test_equals_interpolate(mode, upscale, size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=upscale, mode=mode, align_corners=False)
    torch.testing.assert_close(enlarge(x, upscale, mode), expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_a_part_enlarges_as_in_the_image_to_the_bit(mode, upscale):
    x = torch.rand(1, 3, 40, 40)
    whole, part = enlarge(x, upscale, mode), enlarge(x[:, :, 7:29, 18:], upscale, mode)
    inner = slice(2 * upscale, -2 * upscale)
    rows, columns = slice(7 * upscale, 29 * upscale), slice(18 * upscale, None)
    assert torch.equal(part[:, :, inner, inner], whole[:, :, rows, columns][:, :, inner, inner])


def test_gradient():
    x = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: enlarge(x, 3, "bicubic"), x)
