# SPDX-License-Identifier: Apache-2.0
"""HRImageDataset: training and validation pairs from HR images alone."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmb_quant.errors import LMBError

from basicsr.data.transforms import augment
from basicsr.utils import bgr2ycbcr

from .degradation import Degradation
from .images import BGRImage, find_images, open_store

_GIB = 2**30
_LEAST_LR = 2  # pixels a side, or the reduction fails
_LOGGER = logging.getLogger("basicsr")  # get_root_logger would set it up before its file is known


class HRImageDataset(Dataset[dict[str, Any]]):
    """Pairs of an HR image and its MATLAB-like bicubic reduction.

    Images are decoded and reduced once and kept in memory as uint8. For training: random crops, flips and turns, drawn
    from Python's ``random``, which :class:`~.stream.SeededDataset` seeds for each sample. Gray images are replicated to
    RGB; their Y is then that of the RGB image (studio range).

    Options (keys of the dataset's section):
        dataroot_gt: A folder of HR images or a list of folders.
        gt_size: Side of the HR crop in pixels, a multiple of ``scale``; training only.
        skip_small: Whether images smaller than ``gt_size`` are left out; by default they are an error.
        use_hflip: Flip at random; training only, default true.
        use_rot: Turn by multiples of 90 degrees at random; training only, default true.
        color: ``y`` gives the luma alone, ``(1, H, W)``; by default RGB.
        degradation: What damages the LR image: ``blur``, ``noise``, ``jpeg``, see :class:`~.degradation.Degradation`.
            In training each patch draws its own; in validation each image always has the same. By default none.
        cache_gb: GiB of HR pixels to keep in memory, default 4, for each process of a distributed run. Images beyond
            that are decoded on each use.

    Items: ``gt`` ``(C, H, W)`` and ``lq`` ``(C, H / scale, W / scale)``, float32 in [0, 1], ``gt_path``, ``lq_path``.

    Raises:
        LMBError: If a folder is missing or empty, an image is corrupt or too small, or an option does not fit.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.scale: int = opt["scale"]
        self.is_train = opt["phase"] == "train"
        if opt.get("color") not in (None, "y"):
            raise LMBError(f"color: {opt['color']!r} is not allowed. Allowed: y, or leave it out for RGB.")
        self.degradation = Degradation.of(opt.get("degradation"))
        self.gt_size = self._check_gt_size() if self.is_train else _LEAST_LR * self.scale
        paths = find_images(opt["dataroot_gt"])
        budget = int(float(opt.get("cache_gb", 4)) * _GIB)
        small = bool(opt.get("skip_small", False))
        self.store = open_store(paths, upscale=self.scale, min_size=self.gt_size, skip_small=small, budget=budget)
        if len(self.store) < len(paths):
            _LOGGER.warning(f"skip_small: {len(paths) - len(self.store)} of {len(paths)} images are left out.")
        if self.store.left_out:
            _LOGGER.warning(
                f"{self.store.left_out} of {len(paths)} HR images do not fit into cache_gb: {budget / _GIB:g} and are "
                "decoded on each use. Raise cache_gb, or cut the images into smaller ones."
            )

    def _check_gt_size(self) -> int:
        size = self.opt.get("gt_size")
        if not isinstance(size, int) or size < 1 or size % self.scale:
            raise LMBError(f"gt_size: {size!r} is not allowed. Allowed: a multiple of scale, {self.scale}.")
        return size

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> dict[str, Any]:
        hr, lr = self.store.pair(index)
        if self.is_train:
            hr, lr = (image.copy() for image in self._crop(hr, lr))
            hr, lr = augment([hr, lr], self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        elif self.degradation is not None:
            lr = self.degradation(lr, random.Random(index))
        path = str(self.store.paths[index])
        return {"gt": self._to_tensor(hr), "lq": self._to_tensor(lr), "gt_path": path, "lq_path": path}

    def _to_tensor(self, image: BGRImage) -> Tensor:
        """Turns BGR ``(H, W, 3)``, uint8, into RGB or Y ``(C, H, W)``, float32 in [0, 1].

        By NumPy, which, unlike torch's threads, does not get slow when every core is busy training.
        """
        values = image.astype(np.float32) / 255.0
        if self.opt.get("color") == "y":
            values = bgr2ycbcr(values, y_only=True)[..., None]
        return torch.from_numpy(np.ascontiguousarray(values[..., ::-1].transpose(2, 0, 1), dtype=np.float32))

    def _crop(self, hr: BGRImage, lr: BGRImage) -> tuple[BGRImage, BGRImage]:
        """Cuts the same part out of both images."""
        side = self.gt_size // self.scale
        top, left = (random.randint(0, length - side) for length in lr.shape[:2])
        y, x = top * self.scale, left * self.scale
        hr = hr[y : y + self.gt_size, x : x + self.gt_size]
        if self.degradation is None:
            return hr, lr[top : top + side, left : left + side]
        return hr, self.degradation.patch(lr, top, left, side, random.Random(random.getrandbits(64)))
