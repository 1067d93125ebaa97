# SPDX-License-Identifier: Apache-2.0
"""Photographs that are made, and networks small enough for a test."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

if any(importlib.util.find_spec(name) is None for name in ("skimage", "scipy", "jinja2", "matplotlib")):
    collect_ignore_glob = ["test_*.py"]

needs_basicsr = pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="needs basicsr")
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")


def picture(seed, height=80, width=96):
    """A colour gradient with an edge and some texture, `(H, W, 3)`, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x / width, y / height, 0.5 + 0.4 * np.sin(x / 5 + seed)], axis=-1)
    base[:, width // 3 : width // 2] *= 0.3
    base[: height // 3] += rng.normal(0, 0.06, (height // 3, width, 3))
    return (base.clip(0, 1) * 255).round().astype(np.uint8)


@pytest.fixture
def photographs():
    from lmb_quant.analysis import Photograph

    return [Photograph(f"{i}.png", picture(i)) for i in range(2)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"
