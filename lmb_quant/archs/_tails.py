# SPDX-License-Identifier: Apache-2.0
"""From features at LR size to the HR image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops.resample import upscale_image, upscale_with_detail
from lmb_quant.stages import Stages


class LightTail(nn.Sequential):
    """One convolution to the HR image's pixels, and PixelShuffle: all work at LR size."""

    kernel_size = 3

    def __init__(self, num_feat: int, num_out_ch: int, upscale: int) -> None:
        k = self.kernel_size
        super().__init__(nn.Conv2d(num_feat, num_out_ch * upscale**2, k, padding=k // 2), nn.PixelShuffle(upscale))


class PointwiseTail(LightTail):
    """The same with a 1 x 1 convolution, a ninth of the work."""

    kernel_size = 1


class ClassicTail(nn.Sequential):
    """MSRResNet's tail: upsampling convolutions with PixelShuffle, then two convolutions at HR size."""

    def __init__(self, num_feat: int, num_out_ch: int, upscale: int) -> None:
        layers: list[nn.Module] = []
        for factor in (2, 2) if upscale == 4 else (upscale,):
            layers += [
                nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1),
                nn.PixelShuffle(factor),
                nn.LeakyReLU(0.1, inplace=True),
            ]
        layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
        super().__init__(*layers, nn.Conv2d(num_feat, num_out_ch, 3, padding=1))


LIGHT_TAILS: dict[str, Callable[[int, int, int], nn.Sequential]] = {"light": LightTail, "pointwise": PointwiseTail}
TAILS: dict[str, Callable[[int, int, int], nn.Sequential]] = {**LIGHT_TAILS, "classic": ClassicTail}


def reconstruct(
    x: Tensor, feat: Tensor, tail: nn.Sequential, *, upscale: int, img_range: float, packed: bool
) -> Tensor:
    """The HR image: ``x`` upscaled bilinearly, plus the detail that a tail makes of the features.

    Args:
        x: The image, ``(N, C, H, W)``.
        feat: Features, ``(N, num_feat, H, W)``.
        tail: One of :data:`TAILS`.
        upscale: SR factor.
        img_range: What the network multiplies pixel values by.
        packed: Whether the network is packed: then both are added in one sweep where that is possible.

    Returns:
        The HR image. Without gradient where the engine made it.
    """
    if packed and isinstance(tail, LightTail):
        return upscale_with_detail(x, tail[0](feat), upscale, 1 / img_range)
    detail = tail(feat)
    del feat  # before the HR image needs its memory
    return upscale_image(x, upscale, "bilinear").add_(detail, alpha=1 / img_range)


def add_tail(stages: Stages, tail: nn.Sequential, img_range: float) -> None:
    """Writes down what :func:`reconstruct` does.

    Raises:
        LMBError: If the tail works at HR size.
    """
    if type(tail) not in LIGHT_TAILS.values():
        raise LMBError(f"tail: {type(tail).__name__} is no stage of the engine. Allowed: {', '.join(LIGHT_TAILS)}.")
    conv, shuffle = tail
    upscale = int(shuffle.upscale_factor)  # type: ignore[arg-type]
    stages.conv(conv)
    stages.shuffle(upscale)
    stages.add_upscaled(upscale, "bilinear", 1 / img_range)
