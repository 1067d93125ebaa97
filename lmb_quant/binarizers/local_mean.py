# SPDX-License-Identifier: Apache-2.0
"""Activations against the mean of the values around them: LMB."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops import Comparison, Threshold, check_surrogate, local_mean_sign
from lmb_quant.ops.local_mean import GLOBAL, check_normalize, check_window
from lmb_quant.ops.threshold import MAX_WINDOW

from ._base import ActivationBinarizer, Golden
from ._registry import activation_binarizer

LEARNED = ("none", "channel")


@activation_binarizer(
    "local_mean",
    source="LMB, doi 10.1109/TNNLS.2022.3212827 (abstract); box window and gradient form are this project's choice",
    # T = (1/2, 1/2, 3/4), u = (-1/2, 1/2, -1/4), g = (1, 1, 3/2), G = (2/3, 1, 0),
    # M^T G = (G0/2 + G1/3, G0/2 + G1/3 + G2/2, G1/3 + G2/2) = (2/3, 2/3, 1/3)
    golden=Golden(
        x=(0.0, 1.0, 0.5),
        y=(-1.0, 1.0, -1.0),
        grad_y=(2 / 3, 1.0, 0.0),
        grad_x=(0.0, 1 / 3, -1 / 3),
        options={"window": 3, "surrogate": "approx_sign"},
    ),
)
class LocalMean(ActivationBinarizer):
    """``y = +1 if A - T >= -tau else -1``; ``dy/dA := g(u) (I - M)``, u = A - T, T = M A the local mean.

    With shift c and gain a it is u = A - c - a T.

    Args:
        channels: C of the input; needed for ``shift="channel"``.
        window: Odd number of pixels up to 255, as packed layers have, or ``"global"`` (mean of the whole map).
        shift: ``"channel"`` adds a learned number per channel, 0 at first, to the threshold; ``"none"`` does not.
        gain: ``"channel"`` multiplies the mean by a learned number per channel, 1/2 at first; ``"none"`` does not.
        surrogate: g.
        detach_threshold: Keeps the gradient from flowing through the mean.
        normalize: ``"map"`` evaluates g at u divided by twice its mean magnitude per map.

    Raises:
        LMBError: If an option is not allowed.
    """

    is_per_channel = True

    def __init__(
        self,
        channels: int = 1,
        /,
        *,
        window: int | str = 3,
        shift: str = "none",
        gain: str = "none",
        surrogate: str = "approx_sign",
        detach_threshold: bool = False,
        normalize: str = "none",
    ) -> None:
        super().__init__()
        size = check_window(window)
        if size > MAX_WINDOW:
            raise LMBError(f"window: {window!r} is not allowed. Allowed: odd, 1 to {MAX_WINDOW}, or 'global'.")
        self.window = window
        self.surrogate = check_surrogate(surrogate)
        self.detach_threshold = detach_threshold
        self.normalize = check_normalize(normalize)
        for option, value in (("shift", shift), ("gain", gain)):
            if value not in LEARNED:
                raise LMBError(unknown_name(option, value, LEARNED))
        self.threshold_shift = nn.Parameter(torch.zeros(channels)) if shift == "channel" else None
        self.threshold_gain = nn.Parameter(torch.full((channels,), 0.5)) if gain == "channel" else None
        self.macs_per_value = int(gain == "channel")
        self.additions_per_value = (1 if size == GLOBAL else 2 * (size - 1)) + (shift == "channel")

    def forward(self, x: Tensor) -> Tensor:
        """Binarises ``(N, C, H, W)``."""
        return local_mean_sign(
            x,
            self.window,
            shift=self.threshold_shift,
            gain=self.threshold_gain,
            surrogate=self.surrogate,
            detach_threshold=self.detach_threshold,
            normalize=self.normalize,
            progress=self.progress,
        )

    def comparison(self) -> Comparison:
        """The comparison as data: with the mean, shifted where a shift was learned."""
        kind, window = ("global", 1) if isinstance(self.window, str) else ("local", self.window)
        threshold = Threshold(kind, window, self.threshold_shift, self.threshold_gain)
        return Comparison(threshold, self.surrogate, self.detach_threshold, self.normalize, self.progress)

    def get_options(self) -> dict[str, Any]:
        """The recipe options that make this binariser again."""
        return {
            "window": self.window,
            "shift": "none" if self.threshold_shift is None else "channel",
            "gain": "none" if self.threshold_gain is None else "channel",
            "surrogate": self.surrogate,
            "detach_threshold": self.detach_threshold,
            "normalize": self.normalize,
        }
