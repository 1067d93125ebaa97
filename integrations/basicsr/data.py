# SPDX-License-Identifier: Apache-2.0
"""HRImageDataset: training and validation pairs from HR images alone."""

from __future__ import annotations

import logging
import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmb_quant.archs import UPSCALES
from lmb_quant.errors import LMBError
from lmb_quant.ops.resample import upscale_image

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
        gt_size: Side of the HR crop in pixels, a multiple of the SR factor, or of all; training only.
        skip_small: Whether images smaller than ``gt_size`` are left out; by default they are an error.
        use_hflip: Flip at random; training only, default true.
        use_rot: Turn by multiples of 90 degrees at random; training only, default true.
        color: ``y`` gives the luma alone, ``(1, H, W)``; by default RGB.
        degradation: What damages the LR image: ``blur``, ``noise``, ``jpeg``, see :class:`~.degradation.Degradation`.
            In training each patch draws its own; in validation each image always has the same. By default none.
        interpolated: SR factors, for networks that work on enlarged images (``scale: 1``): ``lq`` is reduced by one of
            them and bicubically enlarged to the size of ``gt``. In training each patch draws its factor; in validation
            one is allowed. By default ``lq`` stays reduced by ``scale``.
        cache_gb: GiB of HR pixels to keep in memory, default 4, for each process of a distributed run. Images beyond
            that are decoded on each use.

    Items: ``gt`` ``(C, H, W)`` and ``lq`` ``(C, H / scale, W / scale)``, float32, ``gt_path``, ``lq_path``. Values are
    in [0, 1]; those of an enlarged ``lq`` may lie a little outside, as no network's own enlargement is clipped.

    Raises:
        LMBError: If a folder is missing or empty, an image is corrupt or too small, or an option does not fit.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.is_train = opt["phase"] == "train"
        self.interpolated = opt.get("interpolated") is not None
        self.upscales = self._check_interpolated() if self.interpolated else (opt["scale"],)
        if opt.get("color") not in (None, "y"):
            raise LMBError(f"color: {opt['color']!r} is not allowed. Allowed: y, or leave it out for RGB.")
        self.degradation = Degradation.of(opt.get("degradation"))
        self.gt_size = self._check_gt_size() if self.is_train else _LEAST_LR * max(self.upscales)
        paths = find_images(opt["dataroot_gt"])
        budget = int(float(opt.get("cache_gb", 4)) * _GIB)
        small = bool(opt.get("skip_small", False))
        self.store = open_store(paths, upscales=self.upscales, min_size=self.gt_size, skip_small=small, budget=budget)
        if len(self.store) < len(paths):
            _LOGGER.warning(f"skip_small: {len(paths) - len(self.store)} of {len(paths)} images are left out.")
        if self.store.left_out:
            _LOGGER.warning(
                f"{self.store.left_out} of {len(paths)} HR images do not fit into cache_gb: {budget / _GIB:g} and are "
                "decoded on each use. Raise cache_gb, or cut the images into smaller ones."
            )

    def _check_interpolated(self) -> tuple[int, ...]:
        given, scale = self.opt["interpolated"], self.opt["scale"]
        factors = given if isinstance(given, list) else []
        allowed = all(isinstance(factor, int) and factor in UPSCALES for factor in factors)
        if not factors or not allowed or (len(factors) > 1 and not self.is_train):
            words, known = "SR factors" if self.is_train else "one SR factor", ", ".join(map(str, UPSCALES))
            raise LMBError(f"interpolated: {given!r} is not allowed. Allowed: a list of {words}, each of {known}.")
        if scale != 1:
            raise LMBError(
                f"interpolated: lq has the size of gt, so scale: {scale!r} is not allowed. Allowed: scale: 1."
            )
        return tuple(factors)

    def _check_gt_size(self) -> int:
        size, multiple = self.opt.get("gt_size"), math.lcm(*self.upscales)
        if not isinstance(size, int) or size < 1 or size % multiple:
            of = "every SR factor" if self.interpolated else "scale"
            raise LMBError(f"gt_size: {size!r} is not allowed. Allowed: a multiple of {of}, {multiple}.")
        return size

    def __len__(self) -> int:
        return len(self.store)

    @property
    def shortest_side(self) -> int:
        """Pixels of the shortest side of all HR images."""
        return self.store.shortest_side

    def __getitem__(self, index: int) -> dict[str, Any]:
        upscale = self.upscales[0] if len(self.upscales) == 1 else random.choice(self.upscales)
        hr, lr = self.store.pair(index, upscale)
        if self.is_train:
            hr, lr = (image.copy() for image in self._crop(hr, lr, upscale))
            hr, lr = augment([hr, lr], self.opt.get("use_hflip", True), self.opt.get("use_rot", True))
        elif self.degradation is not None:
            lr = self.degradation(lr, random.Random(index))
        path = str(self.store.paths[index])
        lq = self._to_tensor(lr)
        if self.interpolated:
            lq = upscale_image(lq[None], upscale, "bicubic")[0]
        return {"gt": self._to_tensor(hr), "lq": lq, "gt_path": path, "lq_path": path}

    def _to_tensor(self, image: BGRImage) -> Tensor:
        """Turns BGR ``(H, W, 3)``, uint8, into RGB or Y ``(C, H, W)``, float32 in [0, 1].

        By NumPy, which, unlike torch's threads, does not get slow when every core is busy training.
        """
        values = image.astype(np.float32) / 255.0
        if self.opt.get("color") == "y":
            values = bgr2ycbcr(values, y_only=True)[..., None]
        return torch.from_numpy(np.ascontiguousarray(values[..., ::-1].transpose(2, 0, 1), dtype=np.float32))

    def _crop(self, hr: BGRImage, lr: BGRImage, upscale: int) -> tuple[BGRImage, BGRImage]:
        """Cuts the same part out of both images."""
        side = self.gt_size // upscale
        top, left = (random.randint(0, length - side) for length in lr.shape[:2])
        y, x = top * upscale, left * upscale
        hr = hr[y : y + self.gt_size, x : x + self.gt_size]
        if self.degradation is None:
            return hr, lr[top : top + side, left : left + side]
        return hr, self.degradation.patch(lr, top, left, side, random.Random(random.getrandbits(64)))
