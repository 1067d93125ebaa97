# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/upscaling/png.py: what two other decoders read is what was written."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from skimage import data

from lmb_quant.upscaling import png
from lmb_quant.upscaling.png import encode_png


@pytest.fixture(params=[1 << 20, 100], ids=["one band", "many bands"])
def band(request, monkeypatch):
    monkeypatch.setattr(png, "_BAND", request.param)


def random_array(channels, dtype, size=(13, 9)):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)
    values[3:6] = values[2]  # and something to compress
    return values


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_bit(channels, dtype, small, band):
    array = random_array(channels, dtype)
    encoded = encode_png(array, small=small)
    decoded = imagecodecs.png_decode(encoded)
    np.testing.assert_array_equal(decoded.reshape(array.shape), array)
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()  # checks each chunk's CRC and the stream's Adler-32
        if dtype == np.uint8:
            np.testing.assert_array_equal(np.asarray(image).reshape(array.shape), array)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_every_size(size, band):
    array = random_array(3, np.uint8, (10, 10))[:1].repeat(50, 0).repeat(5, 1)[: size[0], : size[1]]
    np.testing.assert_array_equal(imagecodecs.png_decode(encode_png(array)), array)


def test_chunks_come_before_the_pixels():
    encoded = encode_png(random_array(3, np.uint8), [(b"gAMA", (100_000).to_bytes(4, "big"))])
    assert encoded.index(b"IHDR") < encoded.index(b"gAMA") < encoded.index(b"IDAT")
    with Image.open(io.BytesIO(encoded)) as image:
        assert image.info["gamma"] == 1.0


def test_sizes_of_a_photograph():
    photograph = data.astronaut()[:256, :256]
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "PNG", compress_level=9)
    fast, small = len(encode_png(photograph)), len(encode_png(photograph, small=True))
    assert small < fast < 1.25 * buffer.tell()
    assert small < 1.01 * buffer.tell()
