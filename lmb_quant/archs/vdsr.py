# SPDX-License-Identifier: Apache-2.0
"""VDSR with bicubic upscaling inside; float, or binarised by a recipe."""

from __future__ import annotations

from torch import Tensor, nn

from lmb_quant.ops.resample import upscale_image
from lmb_quant.rewrite import RecipeLike
from lmb_quant.stages import Stages

from ._blocks import apply_recipe, check_channels, check_count, check_range, check_upscale, conv_act, convs_of, zero_
from ._registry import architecture


@architecture("vdsr", count="num_conv", parts="middle convolutions")
class LMBVDSR(nn.Module):
    """VDSR: bicubic upscaling, then a head, ``num_conv`` middle convolutions and a last one, all at HR size.

    Args:
        num_in_ch: Channels of the image: 1 (Y) or 3 (RGB).
        num_out_ch: Channels of the result; equal to ``num_in_ch``.
        num_feat: Channels of the middle convolutions.
        num_conv: Middle convolutions.
        upscale: SR factor: 2, 3 or 4; or 1 for images that were enlarged before, as in a training for several factors.
        recipe: What :func:`lmb_quant.binarize` takes; ``None`` is the float network.
        img_range: The network works on pixel values times this.

    Raises:
        LMBError: If an argument is not allowed.

    Source:
        VDSR, arXiv 1511.04587; the input range is this project's choice.

    Example:
        >>> LMBVDSR(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=2, upscale=3)(torch.rand(1, 1, 6, 5)).shape
        torch.Size([1, 1, 18, 15])
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_conv: int = 18,
        upscale: int = 4,
        recipe: RecipeLike | None = "lmb",
        img_range: float = 16.0,
    ) -> None:
        super().__init__()
        self.arch_args = {
            "num_in_ch": num_in_ch,
            "num_out_ch": num_out_ch,
            "num_feat": num_feat,
            "num_conv": num_conv,
            "upscale": upscale,
            "img_range": img_range,
        }
        check_channels(num_in_ch, num_out_ch)
        self.upscale = check_upscale(upscale, least=1)
        self.img_range = check_range(img_range)
        self.conv_first = nn.Conv2d(num_in_ch, check_count("num_feat", num_feat), 3, padding=1)
        middle = range(check_count("num_conv", num_conv))
        self.body = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in middle)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self._init_weights()
        apply_recipe(self, recipe)

    def _init_weights(self) -> None:
        """He initialisation, as the paper; an output that starts as the bicubically upscaled input."""
        for conv in (self.conv_first, *convs_of(self.body)):
            nn.init.kaiming_normal_(conv.weight)
            zero_(conv.bias)
        zero_(self.conv_last.weight, self.conv_last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales ``(N, num_in_ch, H, W)``, values about [0, 1], to ``(N, num_out_ch, upscale H, upscale W)``."""
        base = upscale_image(x, self.upscale, "bicubic")
        feat = self.act(self.conv_first((base - 0.5) * self.img_range))
        for conv in self.body:
            feat = conv_act(conv, feat, self.act, overwrite=True)
        return base.add_(self.conv_last(feat), alpha=1 / self.img_range)

    def stages(self) -> Stages:
        """The stages that :meth:`forward` computes.

        Raises:
            LMBError: If a part of it is no stage.
        """
        stages = Stages(self.conv_first.in_channels)
        if self.upscale > 1:
            stages.upscale(self.upscale, "bicubic")
        base = stages.value
        stages.range(-0.5, self.img_range)
        stages.conv(self.conv_first, self.act)
        for conv in self.body:
            stages.conv(conv, self.act)
        stages.conv(self.conv_last)
        stages.add(base, 1 / self.img_range)
        return stages
