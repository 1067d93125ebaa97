# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions with real separable ones between them; float, or binarised by a recipe."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.rewrite import RecipeLike
from lmb_quant.stages import Stages

from ._blocks import (
    apply_recipe,
    check_count,
    conv_act,
    convs_of,
    has_skip,
    zero_,
)
from ._detail import DetailNet
from ._registry import architecture
from ._tails import LIGHT_TAILS


class DenseUnit(nn.Module):
    """``x + relu(conv(x))``, 3 x 3: the convolution that a recipe makes binary.

    Args:
        num_feat: Channels of input and output ``(N, num_feat, H, W)``.
    """

    absorbs_skip_of = ("conv",)

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight)
        zero_(self.conv.bias)
        with torch.no_grad():
            self.conv.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, num_feat, H, W)`` to the same shape; a packed layer computes in ``x``."""
        y = conv_act(self.conv, x, self.act, overwrite=has_skip(self.conv))
        return y if has_skip(self.conv) else x + y

    def add_stages(self, stages: Stages) -> None:
        """Writes down what :meth:`forward` does."""
        x = stages.value
        stages.conv(self.conv, self.act)
        if not has_skip(self.conv):
            stages.add(x)


class SeparableUnit(nn.Module):
    """``y = x + depthwise(x)``, then ``y + act(pointwise(y))``: the real part of a block, small at first.

    Args:
        num_feat: Channels of input and output ``(N, num_feat, H, W)``.
        kernel_size: Of the depthwise convolution; odd.
        groups: Of the pointwise convolution; divides ``num_feat``.
    """

    def __init__(self, num_feat: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(num_feat, num_feat, kernel_size, padding=kernel_size // 2, groups=num_feat)
        self.pointwise = nn.Conv2d(num_feat, num_feat, 1, groups=groups)
        self.act = nn.PReLU(num_feat)
        nn.init.normal_(self.depthwise.weight, std=0.01)
        nn.init.kaiming_normal_(self.pointwise.weight)
        zero_(self.depthwise.bias, self.pointwise.bias)
        with torch.no_grad():
            self.pointwise.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, num_feat, H, W)`` to the same shape."""
        x = x + self.depthwise(x)
        return x + self.act(self.pointwise(x))

    def add_stages(self, stages: Stages) -> None:
        """Writes down what :meth:`forward` does."""
        stages.conv(self.depthwise, skip=True)
        pointwise: nn.Module = self.pointwise
        if isinstance(pointwise, nn.Conv2d):
            stages.conv(pointwise, self.act, skip=True)
            return
        x = stages.value  # a recipe made it binary: the network's function is taken all the same
        stages.conv(pointwise)
        stages.act(self.act)
        stages.add(x)


@architecture("hybrid", count="num_block", parts="blocks", words=("tail",))
class LMBHybridNet(DetailNet):
    """Blocks of 3 x 3 convolutions, which recipes make binary, and of real depthwise and pointwise ones.

    The binary convolutions look around and mix channels by signs. The real ones, together a seventh of the work of a
    real 3 x 3 convolution, add what signs cannot say.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the HR image; equal to ``num_in_ch`` (the upscaled input is added).
        num_feat: Channels of the body.
        num_block: Blocks: ``num_binary`` convolutions of 3 x 3, then ``num_real`` pairs of a depthwise and a pointwise
            one. Each adds its input to its output.
        upscale: SR factor: 2, 3 or 4.
        num_binary: Convolutions of 3 x 3 in a block; 0, with ``recipe=None``, is the separable real network.
        num_real: Pairs of real convolutions in a block; 0 leaves binary ones only.
        kernel_size: Of the depthwise convolutions; odd.
        groups: Of the pointwise convolutions; divides ``num_feat``.
        tail: ``"light"`` (a 3 x 3 convolution and PixelShuffle) or ``"pointwise"`` (the same, 1 x 1).
        recipe: What :func:`lmb_quant.binarize` takes; ``None`` is the float network. It has to leave ``@pointwise`` and
            ``@grouped`` convolutions real, as the recipe ``lmb-hybrid`` does.
        img_range: The network works on pixel values times this.

    Raises:
        LMBError: If an argument is not allowed.

    Source:
        This project's choice; separable convolutions: MobileNets, arXiv 1704.04861.

    Example:
        >>> LMBHybridNet(num_feat=8, num_block=1, upscale=2)(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    body_class = nn.Sequential

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 4,
        upscale: int = 4,
        num_binary: int = 1,
        num_real: int = 1,
        kernel_size: int = 3,
        groups: int = 1,
        tail: str = "pointwise",
        recipe: RecipeLike | None = "lmb-hybrid",
        img_range: float = 16.0,
    ) -> None:
        super().__init__(num_in_ch, num_out_ch, num_feat, upscale, img_range)
        self.arch_args = {
            "num_in_ch": num_in_ch,
            "num_out_ch": num_out_ch,
            "num_feat": num_feat,
            "num_block": num_block,
            "upscale": upscale,
            "num_binary": num_binary,
            "num_real": num_real,
            "kernel_size": kernel_size,
            "groups": groups,
            "tail": tail,
            "img_range": img_range,
        }
        if tail not in LIGHT_TAILS:
            raise LMBError(unknown_name("tail", tail, LIGHT_TAILS))
        if num_binary != 0 or num_real == 0:
            check_count("num_binary", num_binary)
        if num_real != 0:
            check_count("num_real", num_real)
        if check_count("kernel_size", kernel_size) % 2 == 0:
            raise LMBError(f"kernel_size: {kernel_size!r} is not allowed. Allowed: an odd number.")
        if num_feat % check_count("groups", groups):
            raise LMBError(f"groups: {groups!r} is not allowed. Allowed: a divisor of num_feat, {num_feat}.")
        units: list[nn.Module] = []
        for _ in range(check_count("num_block", num_block)):
            units += [DenseUnit(num_feat) for _ in range(num_binary)]
            units += [SeparableUnit(num_feat, kernel_size, groups) for _ in range(num_real)]
        self.body = nn.Sequential(*units)
        self.tail = LIGHT_TAILS[tail](num_feat, num_out_ch, upscale)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        zero_(*convs_of(self.tail)[-1].parameters())
        apply_recipe(self, recipe)
