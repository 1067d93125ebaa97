# SPDX-License-Identifier: Apache-2.0
"""Each kind of image comes back as the same kind."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.upscaling.colour import with_visible_colours

from .conftest import Nearest


def doubled(array):
    return array.repeat(2, 0).repeat(2, 1)


def random_array(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (1, 1)])
def test_gray_arrays_are_exact(channels, dtype, shape):
    image = random_array(*shape, dtype=np.dtype(dtype).newbyteorder("=")).astype(dtype)
    result = lmb.upscale(Nearest(channels), image)
    assert result.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(result, doubled(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_arrays_are_exact(dtype):
    image = random_array(7, 5, 3, dtype=dtype)
    np.testing.assert_array_equal(lmb.upscale(Nearest(3), image), doubled(image))
    np.testing.assert_array_equal(lmb.upscale(Nearest(3), image[::-1, ::2]), doubled(image[::-1, ::2]))


@pytest.mark.parametrize(("shape", "channels"), [((6, 5, 2), 1), ((6, 5, 2), 3), ((6, 5, 4), 3)])
def test_alpha_is_upscaled_on_its_own(shape, channels):
    image = random_array(*shape)
    image[..., -1] = 255
    image[3:, :, -1] = 0
    result = lmb.upscale(Nearest(channels), image)
    if shape[0] > 5:  # rows that no hidden pixel is near
        np.testing.assert_array_equal(result[:2, :, :-1], doubled(image[..., :-1])[:2])
    alpha = torch.from_numpy(image[..., -1] / 255)[None, None]
    expected = F.interpolate(alpha, scale_factor=2, mode="bicubic").clamp(0, 1)[0, 0].numpy() * 255
    np.testing.assert_allclose(result[..., -1], expected, atol=0.501)
    assert result[0, 0, -1] == 255
    assert result[-1, 0, -1] == 0


def test_colour_through_one_channel_is_vdsrs():
    class Brighter(Nearest):
        def forward(self, x):
            super().forward(x)
            return F.interpolate(x, scale_factor=2, mode="bicubic") + 0.1 * 219 / 255

    x = 0.3 + 0.4 * torch.rand(1, 3, 6, 8, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=2, mode="bicubic") + 0.1  # Y moves R, G and B alike
    torch.testing.assert_close(lmb.upscale(Brighter(1), x), expected, atol=1e-6, rtol=0)


def test_rounding_and_clamping():
    class Plus(nn.Module):
        def forward(self, x):
            return x + 0.4 / 255 + (x > 0.9)

    image = np.array([[0, 100, 250]], np.uint8)
    assert lmb.upscale(Plus(), image).tolist() == [[0, 100, 255]]
    deep = np.array([[0, 100, 65000]], np.uint16)
    assert lmb.upscale(Plus(), deep).tolist() == [[103, 203, 65535]]  # 0.4 / 255 is 102.8 / 65535


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_pil_modes_are_kept_exactly(mode):
    image = Image.fromarray(random_array(6, 9, 3)).convert(mode)
    result = lmb.upscale(Nearest(3), image)
    assert (result.mode, result.size) == (mode, (18, 12))
    np.testing.assert_array_equal(np.asarray(result), doubled(np.asarray(image)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [None, 7])
@pytest.mark.parametrize("hidden", [0, 255])
def test_hidden_colours_never_show(channels, tile, hidden):
    """A gray disc on transparent ground; composited on black or white nothing is beyond disc and ground."""
    y, x = np.mgrid[:24, :20]
    alpha = np.clip(8 - np.hypot(y - 11.5, x - 9.5), 0, 1)
    image = np.dstack([np.full((24, 20, 3), hidden), np.round(255 * alpha)]).astype(np.uint8)
    image[alpha > 0, :3] = (40, 90, 200)
    result = lmb.upscale(Nearest(channels, 4), image, tile=tile) / 255
    colour, opacity = result[..., :3], result[..., 3:]
    seen = colour * opacity
    x = torch.from_numpy(image / 255).permute(2, 0, 1)[None]
    plain = F.interpolate(x[:, :3] * x[:, 3:], scale_factor=4, mode="bicubic")[0].permute(1, 2, 0)
    plain = plain.clip(0, 1).numpy()
    near = opacity[..., 0] < 0.99
    assert (seen - plain)[near].max() < 1 / 255
    assert np.abs(colour - np.array([40, 90, 200]) / 255)[opacity[..., 0] > 0.25].max() < 1.5 / 255


def test_a_picture_that_is_all_hidden():
    image = np.zeros((5, 4, 4), np.uint8)
    image[..., :3] = random_array(5, 4, 3)
    assert lmb.upscale(Nearest(3), image)[..., 3].max() == 0


def test_hidden_pixels_take_the_colours_beside_them():
    x = torch.rand(2, 4, 7, 6)
    x[:, 3] = (torch.rand(2, 7, 6) > 0.7).float()
    x[:, 3, 3, 3] = 1
    y = with_visible_colours(x)
    visible = x[:, 3:] > 0
    assert torch.equal(torch.where(visible, y, 0), torch.where(visible, x, 0))
    for one, other in zip(x, y, strict=True):
        seen = one[:3][:, one[3] > 0]
        assert bool((other[:3].amin((1, 2)) >= seen.amin(1) - 1e-6).all())
        assert bool((other[:3].amax((1, 2)) <= seen.amax(1) + 1e-6).all())


class Tinted(Nearest):
    """Adds another number to each channel, as trained networks do a little."""

    def forward(self, x):
        return super().forward(x) + torch.tensor([0.1, 0.0, -0.07])[: self.channels].view(1, -1, 1, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_gray_stored_as_colour_stays_gray(dtype, channels):
    image = np.repeat(random_array(6, 7, 1, dtype=dtype), channels, 2)
    if channels == 4:
        image[..., 3] = np.iinfo(dtype).max
    result = lmb.upscale(Tinted(3), image)
    assert result.shape == (12, 14, channels)
    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    np.testing.assert_array_equal(result[..., 0], result[..., 2])
    np.testing.assert_array_equal(result[..., 0], lmb.upscale(Tinted(3), np.ascontiguousarray(image[..., 0])))
    if dtype == np.uint8:
        mode = "RGBA" if channels == 4 else "RGB"
        again = lmb.upscale(Tinted(3), Image.fromarray(image))
        assert again.mode == mode
        np.testing.assert_array_equal(np.asarray(again), result)
    image[0, 0, 0] ^= 1
    assert (lmb.upscale(Tinted(3), image)[..., 0] != result[..., 0]).any()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_pil_modes_with_alpha(mode):
    array = random_array(6, 9, 4)
    array[..., 3] |= 1
    image = Image.fromarray(array).convert(mode)
    result = lmb.upscale(Nearest(3), image)
    assert (result.mode, result.size) == (mode, (18, 12))
    np.testing.assert_array_equal(np.asarray(result)[..., :-1], doubled(np.asarray(image)[..., :-1]))


def test_pil_16_bits():
    array = random_array(6, 9, dtype=np.uint16)
    result = lmb.upscale(Nearest(3), Image.fromarray(array))
    assert result.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(result), doubled(array))


def test_pil_palettes_become_colours():
    image = Image.fromarray(random_array(6, 9, 3)).quantize(8)
    result = lmb.upscale(Nearest(3), image)
    np.testing.assert_array_equal(np.asarray(result), doubled(np.asarray(image.convert("RGB"))))
    image.info["transparency"] = 3
    assert lmb.upscale(Nearest(3), image).mode == "RGBA"
    assert lmb.upscale(Nearest(3), Image.new("1", (3, 2), 1)).getpixel((5, 3)) == 255


def test_pil_profile_is_kept():
    image = Image.new("RGB", (3, 2))
    image.info |= {"icc_profile": b"profile", "transparency": (0, 0, 0), "duration": 3}
    assert lmb.upscale(Nearest(3), image).info == {"icc_profile": b"profile"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 3, 5, 4)])
def test_tensors_keep_dtype_and_batch(packed, dtype, shape):
    image = torch.rand(shape).to(dtype)
    result = lmb.upscale(packed, image)
    expected = packed(image.float().reshape(-1, 3, 5, 4)).to(dtype)
    assert (result.dtype, result.shape) == (dtype, (*shape[:-2], 10, 8))
    torch.testing.assert_close(result.reshape(expected.shape), expected)


def test_a_tensors_values_are_the_networks_and_can_be_trained_on():
    image = torch.full((3, 4, 4), 1.5, requires_grad=True)
    result = lmb.upscale(Nearest(3), image)
    assert bool((result == 1.5).all())
    factor = torch.ones(1, requires_grad=True)
    (result * factor).sum().backward()  # no inference tensor
    assert factor.grad is not None


def test_tensor_on_a_device(device):
    net = Nearest(3).to(device)
    assert lmb.upscale(net, torch.rand(3, 4, 4, device=device)).device.type == device.type


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "dtype float32 is not allowed. Allowed: uint8, uint16"),
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "dtype torch.uint8"),
        (torch.zeros(4, 4), r"shape \(4, 4\)"),
        (torch.zeros(3, 0, 4), r"shape \(3, 0, 4\)"),
        (torch.zeros(7, 4, 4), "7 channels"),
        (torch.full((3, 4, 4), torch.nan), "it has NaN"),
        (Image.new("F", (3, 3)), r"mode 'F' .*no fixed range: scale them into a NumPy array of uint8 or uint16"),
        (Image.new("I", (3, 3)), r"mode 'I' .*no fixed range: scale them into a NumPy array of uint8 or uint16"),
        (Image.new("LAB", (3, 3)), "mode 'LAB'"),
        ("image.png", "str is not allowed"),
    ],
)
def test_other_images_are_refused_by_name(image, message):
    with pytest.raises(LMBError, match=message):
        lmb.upscale(Nearest(3), image)
