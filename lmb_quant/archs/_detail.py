# SPDX-License-Identifier: Apache-2.0
"""A network that adds its detail to the upscaled image."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from lmb_quant.modules import packed_convs
from lmb_quant.stages import Stages

from ._blocks import check_channels, check_count, check_range, check_upscale
from ._tails import add_tail, reconstruct


class DetailNet(nn.Module):
    """A convolution to features, a body, and a tail that makes detail of them; see :func:`._tails.reconstruct`.

    The architecture sets ``body``, ``tail`` and ``act``.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the HR image, as many.
        num_feat: Channels of the features.
        upscale: SR factor.
        img_range: What pixel values are multiplied by.

    Raises:
        LMBError: If one of them is not allowed.
    """

    body_class: ClassVar[type[nn.Module]]
    body_options: ClassVar[dict[str, Any]] = {}
    """Keyword arguments of the body's forward."""

    body: nn.Module
    tail: nn.Sequential
    act: nn.Module

    def __init__(self, num_in_ch: int, num_out_ch: int, num_feat: int, upscale: int, img_range: float) -> None:
        super().__init__()
        check_channels(num_in_ch, num_out_ch)
        self.upscale = check_upscale(upscale)
        self.img_range = check_range(img_range)
        self.conv_first = nn.Conv2d(num_in_ch, check_count("num_feat", num_feat), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales ``(N, num_in_ch, H, W)``, values about [0, 1], to ``(N, num_out_ch, upscale H, upscale W)``."""
        packed = next(packed_convs(self.body), None) is not None
        return reconstruct(
            x,
            self.body(self._head(x), **self.body_options),  # nobody else holds the features: their place may be taken
            self.tail,
            upscale=self.upscale,
            img_range=self.img_range,
            packed=packed,
        )

    def _head(self, x: Tensor) -> Tensor:
        features: Tensor = self.act(self.conv_first((x - 0.5) * self.img_range))
        return features

    def stages(self) -> Stages:
        """The stages that :meth:`forward` computes.

        Raises:
            LMBError: If a part of it is no stage, as the classic tail.
        """
        stages = Stages(self.conv_first.in_channels)
        stages.range(-0.5, self.img_range)
        stages.conv(self.conv_first, self.act)
        stages.parts(self.body, self.body_class)
        add_tail(stages, self.tail, self.img_range)
        return stages
