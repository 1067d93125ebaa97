# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/degradation.py, and the data set's key of that name."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.data import HRImageDataset
from lmb_quant.integrations.basicsr.degradation import Degradation
from lmb_quant.integrations.basicsr.stream import Draw, SeededDataset

from .conftest import picture


def data(phase: str, **degradation: Any) -> HRImageDataset:
    folder = "images/train" if phase == "train" else "images/val"
    options = {
        "name": "x",
        "phase": phase,
        "scale": 2,
        "dataroot_gt": folder,
        "gt_size": 24,
        "use_hflip": False,
        "use_rot": False,
    }
    return HRImageDataset({**options, "degradation": degradation or None})


def test_nothing_given_changes_nothing() -> None:
    image = picture(1, 24, 31)
    assert Degradation.of(None) is None
    assert np.array_equal(Degradation()(image, Random(0)), image)


def test_noise_has_the_deviation_that_is_given_and_no_mean() -> None:
    image = np.full((200, 200, 3), 120, np.uint8)
    noise = Degradation(noise=(4.0, 4.0))(image, Random(0)).astype(float) - 120
    assert noise.std() == pytest.approx(4.0, rel=0.03)
    assert abs(noise.mean()) < 0.1
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.05


def test_blur_is_a_gaussian_of_that_deviation() -> None:
    image = np.zeros((31, 31, 3), np.uint8)
    image[:, 15] = 255
    row = Degradation(blur=(1.5, 1.5))(image, Random(0))[9, :, 0].astype(float)
    around = np.arange(31) - 15
    assert (row * around**2).sum() / row.sum() == pytest.approx(1.5**2, rel=0.05)


def test_jpeg_is_that_of_the_quality_drawn() -> None:
    image = picture(2, 40, 48)
    found = Degradation(jpeg=(70, 70))(image, Random(3))
    expected = []
    for subsampling in ("4:4:4", "4:2:0"):
        file = io.BytesIO()
        Image.fromarray(image[..., ::-1].copy()).save(file, "JPEG", quality=70, subsampling=subsampling)
        expected.append(np.asarray(Image.open(file))[..., ::-1])
    assert any(np.array_equal(found, image) for image in expected)
    both = {Degradation(jpeg=(70, 70))(image, Random(seed)).tobytes() for seed in range(20)}
    assert both == {image.tobytes() for image in expected}


def test_blocks_begin_anywhere_in_a_patch() -> None:
    image = picture(4, 60, 60)
    degradation = Degradation(jpeg=(30, 30))
    patches = [degradation.patch(image, 20, 21, 16, Random(seed)) for seed in range(30)]
    assert {patch.shape for patch in patches} == {(16, 16, 3)}
    assert len({patch.tobytes() for patch in patches}) > 20
    for top, left in ((0, 0), (44, 44), (3, 44)):  # at the borders nothing is missing or shifted
        exact = Degradation().patch(image, top, left, 16, Random(1))
        assert np.array_equal(exact, image[top : top + 16, left : left + 16])


def test_a_training_patch_is_the_clean_one_damaged() -> None:
    clean, damaged = data("train"), data("train", noise=[2, 4])
    for number in range(6):
        index = Draw(number % 3, seed=number)
        before, after = SeededDataset(clean)[index], SeededDataset(damaged)[index]
        assert torch.equal(before["gt"], after["gt"])
        difference = (before["lq"] - after["lq"]).abs()
        assert 1 < difference.mean() * 255 < 4
        assert torch.equal(SeededDataset(damaged)[index]["lq"], after["lq"])


def test_a_validation_image_is_damaged_the_same_each_time() -> None:
    first, second = data("val", blur=[0, 0.6], noise=[0, 3], jpeg=[60, 95]), data("val")
    for i in range(2):
        assert torch.equal(first[i]["lq"], first[i]["lq"])
        assert not torch.equal(first[i]["lq"], second[i]["lq"])
        assert torch.equal(first[i]["gt"], second[i]["gt"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jpeg": [0, 90]}, r"degradation: jpeg: \[0, 90\] is not allowed. .* two whole numbers from 1 to 100"),
        ({"jpeg": [60.5, 90]}, "jpeg"),
        ({"jpeg": [90, 60]}, "least, most"),
        ({"jpeg": 75}, "jpeg: 75 is not allowed"),
        ({"noise": [0, 101]}, "two numbers from 0 to 100"),
        ({"noise": [0, float("nan")]}, "noise"),
        ({"blur": [True, 1]}, "blur"),
        ({"blur": None}, "blur: None"),
        ({"blurr": [0, 1]}, "did you mean 'blur'|blurr"),
        ("jpeg", "a mapping of blur, noise, jpeg"),
    ],
)
def test_bad_options_are_named(workplace: Path, options: Any, message: str) -> None:
    with pytest.raises(LMBError, match=message):
        Degradation.of(options)
