# SPDX-License-Identifier: Apache-2.0
"""SRResNet, as BasicSR's MSRResNet has it, with a choice of tail; float, or binarised by a recipe."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.rewrite import RecipeLike
from lmb_quant.stages import Stages

from ._blocks import (
    apply_conv,
    apply_recipe,
    check_count,
    conv_act,
    convs_of,
    has_skip,
    zero_,
)
from ._detail import DetailNet
from ._registry import architecture
from ._tails import TAILS


class ResidualBlock(nn.Module):
    """``x + conv2(relu(conv1(x)))``; where both convolutions bring their own skip, the block's is left out.

    Args:
        num_feat: Channels of input and output ``(N, num_feat, H, W)``.
    """

    absorbs_skip_of = ("conv2",)

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """Maps ``(N, num_feat, H, W)`` to the same shape; with ``overwrite`` packed layers may compute in ``x``."""
        own_skip = has_skip(self.conv1) and has_skip(self.conv2)
        y = conv_act(self.conv1, x, self.act, overwrite=overwrite and own_skip)
        y = apply_conv(self.conv2, y, overwrite=True)
        return y if own_skip else x + y

    def add_stages(self, stages: Stages) -> None:
        """Writes down what :meth:`forward` does."""
        x = stages.value
        stages.conv(self.conv1, self.act)
        stages.conv(self.conv2)
        if not (has_skip(self.conv1) and has_skip(self.conv2)):
            stages.add(x)


class Body(nn.Sequential):
    """Residual blocks in a row.

    With ``overwrite`` the packed layers compute all of it in ``x``: a hook that keeps a block's output must copy it.
    """

    def forward(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """Maps ``(N, num_feat, H, W)`` to the same shape."""
        for block in self:
            x, overwrite = block(x, overwrite), True
        return x


@architecture("srresnet", count="num_block", parts="residual blocks", words=("tail",))
class LMBSRResNet(DetailNet):
    """SRResNet for x2, x3 and x4: head, residual blocks, tail, and the bilinearly upscaled input added to the result.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the HR image; equal to ``num_in_ch`` (the upscaled input is added).
        num_feat: Channels of the body.
        num_block: Residual blocks, two convolutions each.
        upscale: SR factor: 2, 3 or 4.
        tail: ``"light"`` (one convolution and PixelShuffle), ``"pointwise"`` (the same, 1 x 1) or ``"classic"``
            (MSRResNet's, whose float work at HR size exceeds that of a binary body).
        recipe: What :func:`lmb_quant.binarize` takes; ``None`` is the float network.
        img_range: The network works on pixel values times this; larger values make more activations fall outside the
            support of a surrogate gradient.

    Raises:
        LMBError: If an argument is not allowed.

    Source:
        BasicSR's MSRResNet; light tail, input range and the skip over each binary convolution: this project's choice.

    Example:
        >>> LMBSRResNet(num_feat=8, num_block=1, upscale=2)(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    body_class = Body
    body_options: ClassVar[dict[str, Any]] = {"overwrite": True}

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: int = 4,
        tail: str = "light",
        recipe: RecipeLike | None = "lmb",
        img_range: float = 16.0,
    ) -> None:
        super().__init__(num_in_ch, num_out_ch, num_feat, upscale, img_range)
        self.arch_args = {
            "num_in_ch": num_in_ch,
            "num_out_ch": num_out_ch,
            "num_feat": num_feat,
            "num_block": num_block,
            "upscale": upscale,
            "tail": tail,
            "img_range": img_range,
        }
        if tail not in TAILS:
            raise LMBError(unknown_name("tail", tail, TAILS))
        self.body = Body(*(ResidualBlock(num_feat) for _ in range(check_count("num_block", num_block))))
        self.tail = TAILS[tail](num_feat, num_out_ch, upscale)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self._init_weights()
        apply_recipe(self, recipe)

    def _init_weights(self) -> None:
        """Small residual branches, and an output that starts as the bilinearly upscaled input."""
        for conv in convs_of(self.body):
            nn.init.kaiming_normal_(conv.weight)
            zero_(conv.bias)
            with torch.no_grad():
                conv.weight.mul_(0.1)
        last = convs_of(self.tail)[-1]
        zero_(last.weight, last.bias)
