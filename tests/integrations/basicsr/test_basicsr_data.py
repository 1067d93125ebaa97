# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/{data,images,stream,rng}.py, and the evaluation against an independent one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.archs import register_once
from lmb_quant.integrations.basicsr.data import HRImageDataset
from lmb_quant.integrations.basicsr.metrics_log import read_validations
from lmb_quant.integrations.basicsr.stream import Draw, SeededDataset, StreamSampler
from lmb_quant.ops.resample import upscale_image

from basicsr.utils.matlab_functions import imresize
from basicsr.utils.registry import ARCH_REGISTRY


def make(**options: Any) -> HRImageDataset:
    base = {"name": "x", "phase": "train", "scale": 2, "dataroot_gt": "images/train", "gt_size": 24}
    return HRImageDataset({**base, **options})


class Bicubic(nn.Module):
    """MATLAB-like bicubic upscaling, for the evaluation path."""

    def __init__(self, upscale: int) -> None:
        super().__init__()
        self.upscale = upscale
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return imresize(x[0], self.upscale)[None]


def cubic_matrix(length: int, factor: float) -> np.ndarray:
    """MATLAB's imresize along one axis as a matrix, written anew from its definition (Keys, a = -0.5; antialiased)."""
    out, shrink = math.ceil(length * factor), min(factor, 1.0)
    matrix = np.zeros((out, length))
    for i in range(out):
        centre = (i + 0.5) / factor - 0.5
        for tap in range(math.floor(centre - 2 / shrink), math.ceil(centre + 2 / shrink) + 1):
            d = abs(centre - tap) * shrink
            weight = 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d <= 2 else 0
            mirrored = tap % (2 * length)
            matrix[i, mirrored if mirrored < length else 2 * length - 1 - mirrored] += weight
    return matrix / matrix.sum(1, keepdims=True)


def resize(image: np.ndarray, factor: float) -> np.ndarray:
    rows, columns = (cubic_matrix(length, factor) for length in image.shape[:2])
    resized = np.einsum("ij,jkc->ikc", rows, np.einsum("kl,jlc->jkc", columns, image.astype(float)))
    return resized.clip(0, 255).round().astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    return 16 + image.astype(float) @ np.array([65.481, 128.553, 24.966]) / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_evaluation_agrees_with_an_independent_one(
    run: Callable[..., int], evaluation_options: dict[str, Any], scale: int, capsys: pytest.CaptureFixture[str]
) -> None:
    register_once(ARCH_REGISTRY, Bicubic)
    evaluation_options["network_g"] = {"type": "Bicubic", "upscale": scale}
    evaluation_options["scale"] = scale
    for metric in evaluation_options["val"]["metrics"].values():
        metric["crop_border"] = scale
    assert run(evaluation_options, test=True) == 0
    assert "path.pretrain_network_g is not given: an untrained" in capsys.readouterr().err
    found = read_validations("results/tiny")[0]

    psnr, ssim = [], []
    for path in sorted(Path("images/val").iterdir()):
        hr = np.asarray(Image.open(path))
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        sr = resize(resize(hr, 1 / scale), scale)
        a, b = (luma(image)[scale:-scale, scale:-scale] for image in (hr, sr))
        psnr.append(10 * np.log10(255**2 / np.mean((a - b) ** 2)))
        metrics = pytest.importorskip("skimage.metrics")
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        ssim.append(metrics.structural_similarity(a, b, **options))
    assert found["psnr"] == pytest.approx(np.mean(psnr), abs=0.01)
    assert found["ssim"] == pytest.approx(np.mean(ssim), abs=1e-3)


def test_crops_are_aligned_and_of_the_asked_size() -> None:
    data = make(use_hflip=False, use_rot=False)
    whole = make(phase="val")
    for i in range(3):
        item, full = data[i], whole[i]
        assert item["gt"].shape == (3, 24, 24)
        assert item["lq"].shape == (3, 12, 12)
        assert item["gt"].dtype == torch.float32
        hits = [
            (y, x)
            for y in range(full["lq"].shape[1] - 11)
            for x in range(full["lq"].shape[2] - 11)
            if torch.equal(full["lq"][:, y : y + 12, x : x + 12], item["lq"])
        ]
        y, x = hits[0]
        assert torch.equal(full["gt"][:, 2 * y : 2 * y + 24, 2 * x : 2 * x + 24], item["gt"])


def test_validation_crops_to_a_multiple_and_reduces_as_matlab_does() -> None:
    item = make(phase="val", dataroot_gt="images/val", scale=3)[0]
    hr = np.asarray(Image.open("images/val/0.png"))[:36, :45]
    assert torch.equal(item["gt"], torch.from_numpy(hr.transpose(2, 0, 1) / np.float32(255)))
    expected = resize(hr, 1 / 3).transpose(2, 0, 1)
    assert np.abs(item["lq"].numpy() * 255 - expected).max() < 1.01  # one level where rounding ties
    assert item["lq_path"].endswith("0.png")


def test_augmentation_never_writes_to_the_cache() -> None:
    data = make()
    before = [tuple(image.copy() for image in data.store.pair(i, 2)) for i in range(len(data))]
    for i in range(60):
        data[i % 3]
    for i, (hr, lr) in enumerate(before):
        assert np.array_equal(data.store.pair(i, 2)[0], hr)
        assert np.array_equal(data.store.pair(i, 2)[1], lr)


def test_gray_images_and_luma(workplace: Path) -> None:
    Image.open("images/val/0.png").convert("L").save("images/val/0.png")
    rgb, y = make(phase="val", dataroot_gt="images/val")[0], make(phase="val", dataroot_gt="images/val", color="y")[0]
    assert torch.equal(rgb["gt"][0], rgb["gt"][2])
    assert y["gt"].shape == (1, 36, 44)
    assert torch.allclose(y["gt"][0] * 255, 16 + rgb["gt"][0] * 219, atol=0.01)


def test_a_budget_changes_nothing_but_memory() -> None:
    kept, read = make(), make(cache_gb=0)
    assert kept.store.left_out == 0
    assert read.store.left_out == 3
    for i in range(3):
        assert np.array_equal(kept.store.pair(i, 2)[0], read.store.pair(i, 2)[0])


def test_several_folders() -> None:
    assert len(make(phase="val", dataroot_gt=["images/train", "images/val"])) == 5


def test_bad_folders_and_images_are_named(workplace: Path) -> None:
    with pytest.raises(LMBError, match="'nowhere' is not a folder"):
        make(dataroot_gt="nowhere")
    with pytest.raises(LMBError, match=r"'images' holds no image .* Its folders do: train, val"):
        make(dataroot_gt="images")
    with pytest.raises(LMBError, match=r"images/train/2.png: 30 x 30 pixels .* is too small. .* skip_small"):
        make(gt_size=32)
    assert len(make(gt_size=32, skip_small=True)) == 2
    with pytest.raises(LMBError, match="all 3 images are smaller"):
        make(gt_size=400, skip_small=True)
    with pytest.raises(LMBError, match=r"gt_size: 25 is not allowed. Allowed: a multiple of scale, 2"):
        make(gt_size=25)
    with pytest.raises(LMBError, match="color: 'rgb'"):
        make(color="rgb")
    good = Path("images/train/1.png").read_bytes()
    for content in (good[: len(good) // 2], b"not an image", b""):
        Path("images/train/1.png").write_bytes(content)
        with pytest.raises(LMBError, match=r"images/train/1.png: cannot be read as an image"):
            make()
    Image.fromarray(np.zeros((40, 40), np.uint16)).save("images/train/1.png")
    with pytest.raises(LMBError, match="8 bits per channel"):
        make()


def sampler(*, rank: int = 0, world: int = 1, first: int = 0, epoch: int = 0) -> StreamSampler:
    made = StreamSampler(range(7), world, rank, 4)
    made.begin(batch=2, batches=6, seed=5, first=first)
    made.set_epoch(epoch)
    return made


def test_the_stream_goes_on_where_it_stopped() -> None:
    whole = [(int(draw), draw.seed) for epoch in range(3) for draw in sampler(epoch=epoch)]
    assert len(whole) == 36
    assert {index for index, _ in whole[:7]} == set(range(7))
    assert len({seed for _, seed in whole}) == 36
    for first in (0, 3, 6, 7, 12):
        rest = [(int(d), d.seed) for epoch in range(first // 6, 3) for d in sampler(first=first, epoch=epoch)]
        assert rest == whole[2 * first :]


def test_processes_share_the_stream() -> None:
    shares = [[int(draw) for draw in sampler(rank=rank, world=2)] for rank in range(2)]
    merged = [index for pair in zip(*shares, strict=True) for index in pair]
    assert sorted(merged[:7]) == list(range(7))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_depends_on_its_own_seed_alone(workers: int) -> None:
    data = SeededDataset(make())
    draws = [Draw(i % 3, 1000 + i) for i in range(6)]
    loader: Any = DataLoader(data, batch_size=1, sampler=draws, num_workers=workers)  # type: ignore[arg-type]
    random.seed(1)
    before = random.getstate(), torch.get_rng_state()
    if workers:
        loader.generator = torch.Generator()
    items = [batch["lq"] for batch in loader]
    if not workers:
        assert random.getstate() == before[0]
    random.seed(2)
    again = [data[draw]["lq"][None] for draw in reversed(draws)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(items, again, strict=True))


def test_interpolated_images_have_the_size_of_gt_and_each_patch_its_factor(workplace: Path) -> None:
    data = make(scale=1, interpolated=[2, 3, 4])
    reduced = {factor: make(scale=factor) for factor in (2, 3, 4)}
    seen = set()
    for seed in range(30):
        random.seed(seed)
        item = data[seed % len(data)]
        random.seed(seed)
        factor = random.choice([2, 3, 4])
        seen.add(factor)
        assert item["gt"].shape == item["lq"].shape == (3, 24, 24)
        pair = reduced[factor]
        hr, lr = data.store.pair(seed % len(data), factor)
        side = 24 // factor
        top, left = (random.randint(0, length - side) for length in lr.shape[:2])
        assert all(length % 12 == 0 for length in hr.shape[:2])
        patch = pair._to_tensor(lr[top : top + side, left : left + side])
        flips = [upscale_image(turned[None], factor, "bicubic")[0] for turned in turns(patch)]
        assert any(torch.equal(item["lq"], flip) for flip in flips)
    assert seen == {2, 3, 4}


def turns(image: Tensor) -> list[Tensor]:
    """The eight ways in which a square can lie."""
    return [part.rot90(quarter, (1, 2)) for part in (image, image.flip(2)) for quarter in range(4)]


def test_validation_with_one_interpolated_factor_is_what_a_network_with_that_upscale_gets(workplace: Path) -> None:
    plain, enlarged = make(phase="val", scale=3), make(phase="val", scale=1, interpolated=[3])
    for index in range(len(plain)):
        assert torch.equal(plain[index]["gt"], enlarged[index]["gt"])
        assert torch.equal(upscale_image(plain[index]["lq"][None], 3, "bicubic")[0], enlarged[index]["lq"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolated": 3}, r"interpolated: 3 is not allowed. Allowed: a list of SR factors, each of 2, 3, 4"),
        ({"interpolated": []}, r"interpolated: \[\] is not allowed"),
        ({"interpolated": [2, 5]}, r"interpolated: \[2, 5\] is not allowed"),
        ({"interpolated": [2, 3.0]}, r"interpolated: \[2, 3.0\] is not allowed"),
        ({"interpolated": [2, "3"]}, r"interpolated: \[2, '3'\] is not allowed"),
        ({"interpolated": [[2], 3]}, r"interpolated: \[\[2\], 3\] is not allowed"),
        ({"interpolated": [2, 3], "phase": "val"}, r"Allowed: a list of one SR factor"),
        ({"interpolated": [2, 3], "scale": 2}, r"scale: 2 is not allowed. Allowed: scale: 1"),
        (
            {"interpolated": [2, 3], "gt_size": 20},
            r"gt_size: 20 is not allowed. Allowed: a multiple of every SR factor, 6",
        ),
    ],
)
def test_interpolated_that_does_not_fit(workplace: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LMBError, match=message):
        make(**{"scale": 1, **options})


def test_an_image_of_damaged_exif_is_named() -> None:
    Image.new("RGB", (30, 30)).save("images/train/3.png", exif=b"Exif\0\0II*\0\x08\0")  # Pillow raises struct.error
    with pytest.raises(LMBError, match=r"images/train/3.png: cannot be read as an image: error: unpack"):
        make()
