# SPDX-License-Identifier: Apache-2.0
"""The page in a headless Chromium: files are dropped on it, and what it shows is compared with Python's result."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lmb_quant as lmb
from lmb_quant.bench.web.browser import find_chromium, reports_of
from lmb_quant.errors import LMBError
from lmb_quant.integrations.web import site_files

HERE = Path(__file__).parent


def found_chromium():
    try:
        return find_chromium(None)
    except LMBError:
        return None


def png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def shown():
    """What the page shows after each file; the network is lmb_base_x4 until another is dropped."""
    if found_chromium() is None:
        pytest.skip("Chromium is not installed")
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((45, 35), Image.Resampling.BICUBIC))
    site = site_files()
    small = site["networks/lmb_small_x4.safetensors"]
    dropped = {
        "picture.png": png(image),
        "cut.png": png(image)[:200],
        "words.txt": b"no picture",
        "damaged.safetensors": small[:-1],
        "lmb_small_x4.safetensors": small,
    }
    served = {"index.html": (HERE / "drop.html").read_bytes(), "files.json": json.dumps([*dropped]).encode()}
    served |= dropped | {f"app/{name}": data for name, data in site.items()}
    reports = dict(reports_of(find_chromium(None), served, "done", 120))
    return image, {name: {kind: reports.get(f"{kind}-{i}", b"") for kind in ("status", "error", "after")}
                   for i, name in enumerate(dropped)}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "network"), [("picture.png", "lmb_base_x4"), ("lmb_small_x4.safetensors", "lmb_small_x4")]
)
def test_a_dropped_picture_is_upscaled_as_by_python(shown, name, network):
    image, pages = shown
    page = pages[name]
    assert page["error"] == b""
    assert page["status"].startswith(b"45 x 35 to 180 x 140 pixels in ")
    found = np.frombuffer(page["after"], np.uint8).reshape(140, 180, 4).astype(int)
    difference = np.abs(found[..., :3] - lmb.upscale(lmb.from_pretrained(network), image))
    assert difference.max() <= 4  # where a rounding turned a bit
    assert (difference > 0).mean() < 0.002
    assert (found[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cut.png", b"cut.png is no picture that this browser can read."),
        ("words.txt", b"words.txt is no picture that this browser can read."),
        ("damaged.safetensors", b"The network file cannot be used: "),
    ],
)
def test_what_cannot_be_used_is_said_on_the_page(shown, name, words):
    assert shown[1][name]["error"].startswith(words)
