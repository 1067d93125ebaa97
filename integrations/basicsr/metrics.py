# SPDX-License-Identifier: Apache-2.0
"""The field's protocol for single images: MATLAB-like bicubic, PSNR and SSIM on Y with a cropped border."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import img2tensor, tensor2img
from basicsr.utils.matlab_functions import imresize

from .images import BGRImage


def upscale_bicubic(image: BGRImage, upscale: int) -> BGRImage:
    """Upscales ``(H, W, C)`` as MATLAB's bicubic imresize does; rounded to uint8."""
    large = imresize(image.astype(np.float32) / 255.0, upscale)
    return np.ascontiguousarray((large.clip(0, 1) * 255.0).round().astype(np.uint8))


def run_network(network: nn.Module, image: BGRImage) -> BGRImage:
    """Runs an RGB network on a BGR image, ``(H, W, 3)``, uint8, and gives its result in the same form.

    It runs where the network's parameters are.
    """
    network.eval()
    device = next((parameter.device for parameter in network.parameters()), None)
    with torch.no_grad():
        output = network(img2tensor(image.astype(np.float32) / 255.0)[None].to(device))
    return np.asarray(tensor2img(output))


def psnr_y(image: BGRImage, reference: BGRImage, border: int) -> float:
    """PSNR in dB on Y (BT.601) of two BGR images, ``(H, W, 3)``, uint8; ``border`` pixels are cropped on each side."""
    return float(calculate_psnr(image, reference, crop_border=border, test_y_channel=True))


def ssim_y(image: BGRImage, reference: BGRImage, border: int) -> float:
    """SSIM on Y, in [-1, 1]; as :func:`psnr_y`."""
    return float(calculate_ssim(image, reference, crop_border=border, test_y_channel=True))
