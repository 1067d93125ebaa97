# SPDX-License-Identifier: Apache-2.0
"""Surrogate derivatives that the engine does not compute: their values at each activation."""

from __future__ import annotations

import torch
from torch import Tensor

from lmb_quant.ops.local_mean import GLOBAL, distance, normalized
from lmb_quant.ops.surrogates import surrogate_derivative
from lmb_quant.ops.threshold import Threshold


def derivative_of(
    x: Tensor,
    threshold: Threshold,
    shift: Tensor | None,
    gain: Tensor | None,
    surrogate: str,
    normalize: str,
    progress: Tensor | None,
) -> Tensor:
    """g(u), u the distance of float32 ``(N, C, H, W)`` to its threshold; same shape, channels-last."""
    if threshold.kind in ("local", "global"):
        window = GLOBAL if threshold.kind == "global" else threshold.window
        u = normalized(distance(x, window, shift, gain).u, normalize)
    else:
        u = x if shift is None else x - shift.view(1, -1, 1, 1)
    return surrogate_derivative(u, surrogate, progress).contiguous(memory_format=torch.channels_last)
