# SPDX-License-Identifier: Apache-2.0
"""upscale(): an image through a network, whole or in tiles."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops.network import EngineNetwork
from lmb_quant.stages import network_of

from .colour import BICUBIC_REACH, upscale_as
from .images import Picture, picture_of
from .network import check_finite, evaluated, find_traits, is_local, run, running, traits_of_stages
from .tiles import Tile, at_once, automatic_side, cut

ImageKind = TypeVar("ImageKind")
Progress = Callable[[int, int], None]
"""Called with the tiles that are done and all of them."""


def upscale(
    model: nn.Module,
    image: ImageKind,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ImageKind:
    """Upscales an image of any size by a super-resolution network.

    The result in tiles equals that of the whole image: each tile is run with as much of its surroundings as the network
    can see. Where the network sees the whole image (a global window, pooling, attention), that cannot be; a warning
    says so. docs/upscaling.md has the details.

    Args:
        model: Packed (:func:`lmb_quant.load`), binary or float; on any device. It is not changed, nor its mode: other
            threads may use it.
        image: NumPy ``(H, W)`` or ``(H, W, C)``, uint8 or uint16, C = 1 to 4: gray, gray and alpha, RGB, RGBA; or a
            PIL image; or a tensor ``(C, H, W)`` or ``(N, C, H, W)``, floating point, about [0, 1].
        tile: Side of a tile, LR pixels. By default the whole image where that needs about 2 GiB, else tiles that do.
        overlap: What is added on each side of a tile, LR pixels. By default as far as the network sees; less is
            faster, and the tiles may then show.
        threads: CPU threads of this call, others stay as they are; by default as PyTorch is set.
        progress: Called after each tile with the tiles that are done and all of them.

    Returns:
        The same kind: dtype, order of channels, PIL mode (a palette becomes RGB or RGBA, 1 bit becomes L) and device.
        Height and width times the network's SR factor. Integers are rounded to the nearest and cut to their range, a
        tensor's values are the network's.

    Raises:
        LMBError: If the image or an argument is not allowed, or the network does not take it, gives NaN, or does not
            upscale by a whole factor.

    Example:
        >>> upscale(nn.Upsample(scale_factor=2), torch.rand(3, 5, 4)).shape
        torch.Size([3, 10, 8])
    """
    return _Once(model, tile=tile, overlap=overlap, threads=threads)(image, progress)


class Upscaler:
    """:func:`upscale` for many images: the network is examined once. Several threads may call it.

    It keeps the network's tensors, and the mode and modules that it had.

    Args:
        model: As all others, as in :func:`upscale`.

    Raises:
        LMBError: If an argument is not allowed, or the network runs on no image that was tried.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: {model!r} is not allowed. Allowed: a torch.nn.Module.")
        self.tile = _whole("tile", tile, 1)
        self.overlap = _whole("overlap", overlap, 0)
        self.threads = _whole("threads", threads, 1)
        with running(threads):
            self.model = self._examined(model)
            network = self._engine_network()
            if network is not None and network.channels == network.out_channels:
                self.traits = traits_of_stages(network)
            else:
                self.traits = find_traits(self.model)
        self._is_checked = overlap is not None  # the user decided

    @property
    def upscale(self) -> int:
        """The network's SR factor."""
        return self.traits.upscale

    def __call__(self, image: ImageKind, progress: Progress | None = None) -> ImageKind:
        """Upscales one image; arguments, result and errors as in :func:`upscale`."""
        picture = picture_of(image, self.traits.channels)
        count, _, height, width = picture.size
        overlap = max(self.traits.reach, BICUBIC_REACH) if self.overlap is None else self.overlap
        side = automatic_side(self.traits, overlap, count) if self.tile is None else self.tile
        with running(self.threads):
            tiles = list(cut(height, width, side, overlap, self.traits.alignment))
            if len(tiles) > 1:
                self._check()
            network = self._network_of_bytes(picture)
            if network is None:
                values = self._run(picture, tiles, progress)
            else:
                values = self._run_bytes(network, picture, tiles, progress)
        result: ImageKind = picture.restore(values.clone() if picture.peak is None else values)
        return result

    def for_many(self, pixels: int) -> tuple[Upscaler, int]:
        """What upscales images of one size, and of how many at once it is best called.

        Threads that have an image each do not wait for one another, as those do that share one. So there are as many
        images at once as threads, as far as about 2 GiB allow. A network that the engine does not run gets one.

        Args:
            pixels: Of an image, LR.
        """
        with running(self.threads):
            network, threads = self._engine_network(), torch.get_num_threads()
        count = 1 if network is None else min(threads, at_once(network.bytes_per_pixel, pixels))
        if count == 1:
            return self, 1
        each = copy.copy(self)
        each.threads = threads // count
        return each, count

    def _examined(self, model: nn.Module) -> nn.Module:
        return evaluated(model)

    def _check(self) -> None:
        """Warns once where tiles cannot give the result of the whole image."""
        if not self._is_checked and not is_local(self.model, self.traits):
            warnings.warn(
                f"the network sees more of the image than the {self.traits.reach} pixels around a tile (a global "
                "window, pooling or attention): the result in tiles differs from that of the whole image",
                stacklevel=4,
            )
        self._is_checked = True

    def _run(self, picture: Picture, tiles: list[Tile], progress: Progress | None) -> Tensor:
        factor, values = self.upscale, picture.values
        count, channels, height, width = picture.size
        result = torch.empty(
            (count, channels, factor * height, factor * width),
            dtype=picture.dtype,
            device=values.device,
            memory_format=torch.contiguous_format if picture.peak is None else torch.channels_last,
        )
        for done, tile in enumerate(tiles, start=1):
            top, bottom, left, right = (factor * edge for edge in tile.inner)
            y0, y1, x0, x1 = tile.outer
            part = upscale_as(values[:, :, y0:y1, x0:x1], picture.layout, self._network, self.traits.channels, factor)
            y0, x0 = factor * y0, factor * x0
            part = part[:, :, top - y0 : bottom - y0, left - x0 : right - x0]
            result[:, :, top:bottom, left:right] = picture.finished(part)
            if progress is not None:
                progress(done, len(tiles))
        return result

    def _network(self, x: Tensor) -> Tensor:
        return run(self.model, x)

    def _network_of_bytes(self, picture: Picture) -> EngineNetwork | None:
        """The network where it makes the result's bytes of the image's: nothing is between them."""
        plain = picture.peak == 255 and picture.layout in ("L", "RGB") and picture.size[1] == self.traits.channels
        return self._engine_network() if plain else None

    def _engine_network(self) -> EngineNetwork | None:
        """The network as it is now, where the engine runs it in one call."""
        return network_of(self.model)

    def _run_bytes(
        self, network: EngineNetwork, picture: Picture, tiles: list[Tile], progress: Progress | None
    ) -> Tensor:
        factor, (_, channels, height, width) = self.upscale, picture.size
        pixels = np.ascontiguousarray(picture.pixels)
        result = np.empty((factor * height, factor * width, channels), np.uint8)
        for done, tile in enumerate(tiles, start=1):
            top, bottom, left, right = (factor * edge for edge in tile.inner)
            y0, y1, x0, x1 = tile.outer
            part = pixels[y0:y1, x0:x1]
            whole = len(tiles) == 1
            large = result if whole else np.empty((factor * (y1 - y0), factor * (x1 - x0), channels), np.uint8)
            check_finite(network.run_bytes(part, large), f"{y1 - y0} x {x1 - x0}")
            if not whole:
                y0, x0 = factor * y0, factor * x0
                result[top:bottom, left:right] = large[top - y0 : bottom - y0, left - x0 : right - x0]
            if progress is not None:
                progress(done, len(tiles))
        return torch.from_numpy(result).permute(2, 0, 1)[None]


class _Once(Upscaler):
    """For one call: a network of stages needs no copy, for the engine holds what it runs."""

    def _examined(self, model: nn.Module) -> nn.Module:
        self._engine = network_of(model)
        if self._engine is not None:
            return model
        model = evaluated(model)
        self._engine = network_of(model)
        return model

    def _engine_network(self) -> EngineNetwork | None:
        return self._engine


def _whole(name: str, value: Any, low: int) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
        raise LMBError(f"{name}: {value!r} is not allowed. Allowed: a whole number from {low}.")
    return value
