# SPDX-License-Identifier: Apache-2.0
"""LR patches of training images, for quantisers that look at activations: always the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmb_quant.bench.suite.plan.cell import ImageSet
from lmb_quant.integrations.basicsr.images import crop_to_multiple, find_images, read_bgr, reduce_image


def calibration_images(sets: Sequence[ImageSet], upscale: int, count: int, side: int) -> list[Tensor]:
    """One patch from each of so many training images.

    Args:
        sets: Training sets.
        upscale: SR factor; patches are reduced as training's are.
        count: Images, drawn from all sets without repetition; all of them if there are fewer.
        side: Height and width of a patch in LR pixels, less where an image is smaller.

    Returns:
        Float32 RGB ``(1, 3, H, W)`` in [0, 1].
    """
    rng = np.random.default_rng(0)
    paths = [path for images in sets for path in find_images(images.folder)]
    patches = []
    for i in sorted(rng.permutation(len(paths))[:count]):
        image = crop_to_multiple(read_bgr(paths[i]), upscale)
        for axis in (0, 1):
            room = image.shape[axis] // upscale - side
            start = upscale * int(rng.integers(room + 1)) if room > 0 else 0
            image = image.take(range(start, min(start + upscale * side, image.shape[axis])), axis=axis)
        rgb = np.ascontiguousarray(reduce_image(image, upscale)[..., ::-1], np.float32) / 255
        patches.append(torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous())
    return patches
