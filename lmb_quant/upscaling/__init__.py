# SPDX-License-Identifier: Apache-2.0
"""Upscaling images of any size and kind with a super-resolution network, in tiles where they are large."""

from .upscaler import Upscaler as Upscaler
from .upscaler import upscale as upscale
