# SPDX-License-Identifier: Apache-2.0
"""Whole networks of the engine (csrc/include/lmb_quant.h): made of stages, run in one call."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._library import Library
from .binary_conv2d import LayerArguments
from .binary_conv2d.description import described

STAGE_KINDS = ("range", "conv", "depthwise", "binary", "act", "add", "shuffle", "add_upscaled", "upscale")
"""In the order of ``lmbq_stage_kind``, from 1."""
PARTS = ("threshold", "packing", "sums", "epilogue", "rest")
"""In the order of ``lmbq_part``."""


class StageDescription(ctypes.Structure):
    """``lmbq_stage_desc``, field by field."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        *(
            (name, ctypes.c_int32)
            for name in ("kind", "out_channels", "groups", "kernel", "act", "slope_count", "skip")
        ),
        *((name, ctypes.c_int32) for name in ("other", "upscale", "mode")),
        *((name, ctypes.c_float) for name in ("offset", "gain", "alpha")),
        *((name, ctypes.c_int32) for name in ("layer_skip", "int8")),
        ("weight_count", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "slope", "gamma", "zeta", "layer")),
    )


class _Info(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("channels", "out_channels", "upscale", "reach", "sees_all")),
        ("bytes", ctypes.c_uint64),
        ("bytes_per_pixel", ctypes.c_uint64),
    )


@dataclass(frozen=True, eq=False)
class Profile:
    """Where the time of a run goes: ``nanoseconds`` of each stage by the names of its parts, and ``output`` of the run.

    Of stages that are not binary, all that they compute is ``sums``. ``gigahertz`` are CPU cycles a nanosecond.
    """

    output: Tensor
    nanoseconds: list[dict[str, float]]
    gigahertz: float


@dataclass(frozen=True, eq=False)
class StageArguments:
    """One stage as the engine takes it.

    ``numbers`` and ``tensors`` are members of ``lmbq_stage_desc``, tensors float32; ``layer`` are a packed layer's
    arguments and its number of inputs.
    """

    kind: str
    numbers: dict[str, float | int] = field(default_factory=dict)
    tensors: dict[str, Tensor | None] = field(default_factory=dict)
    layer: tuple[LayerArguments, int] | None = None


class EngineNetwork:
    """A network in the engine's run-time layout; it holds copies of all it was made from. Any thread may run it.

    ``upscale`` is its SR factor, ``channels`` those of the image; ``reach`` how far from an output pixel the input
    pixels are that it depends on, LR pixels; ``sees_all`` whether a threshold is a mean over the whole image;
    ``bytes_per_pixel`` what the activations of one LR pixel take.

    Args:
        library: The engine.
        stages: In order.
        channels: Of the image.

    Raises:
        LMBError: If the engine refuses them; says which stage, and why.
    """

    def __init__(self, library: Library, stages: Sequence[StageArguments], channels: int) -> None:
        kept: list[object] = []  # what the descriptions point to
        descriptions = (StageDescription * len(stages))(*(_description(stage, kept) for stage in stages))
        self.library, self.handle, self.stages = library, ctypes.c_void_p(), len(stages)
        c = library.c
        status = c.lmbq_network_create(descriptions, len(stages), channels, 0, ctypes.byref(self.handle))
        library.check(status, "network")
        self._close = weakref.finalize(self, c.lmbq_network_close, ctypes.byref(self.handle))
        info = _Info()
        library.check(c.lmbq_network_query(self.handle, ctypes.byref(info)), "network")
        self.channels, self.out_channels, self.upscale = info.channels, info.out_channels, info.upscale
        self.reach, self.sees_all, self.bytes_per_pixel = info.reach, bool(info.sees_all), info.bytes_per_pixel

    def run(self, x: Tensor) -> tuple[Tensor, bool]:
        """The network's output for ``(N, channels, H, W)``, float32, on the CPU; contiguous, without gradient.

        Returns:
            The output, and whether all of its values are finite.

        Raises:
            LMBError: If the engine cannot run it.
        """
        n, _, height, width = x.shape
        interleaved = x.is_contiguous(memory_format=torch.channels_last)
        image = x if interleaved else x.contiguous()
        out = x.new_empty((n, self.out_channels, self.upscale * height, self.upscale * width))
        finite = ctypes.c_int()
        status = self.library.c.lmbq_network_run(
            self.handle, image.data_ptr(), int(interleaved), out.data_ptr(), 0, n, height, width,
            torch.get_num_threads(), ctypes.byref(finite),
        )  # fmt: skip
        self.library.check(status, "network")
        return out, bool(finite.value)

    def profile(self, x: Tensor, runs: int) -> Profile:
        """Runs one image on the calling thread, and says where the time went.

        Args:
            x: ``(1, channels, H, W)``, float32, on the CPU.
            runs: How often; each piece of a row counts by its least time.

        Raises:
            LMBError: If the engine cannot run it.
        """
        _, _, height, width = x.shape
        image = x.contiguous()
        out = x.new_empty((1, self.out_channels, self.upscale * height, self.upscale * width))
        times = (ctypes.c_double * (self.stages * len(PARTS)))()
        cycles = ctypes.c_double()
        status = self.library.c.lmbq_network_profile(
            self.handle, image.data_ptr(), 0, out.data_ptr(), 0, height, width, runs, times, len(times),
            ctypes.byref(cycles),
        )  # fmt: skip
        self.library.check(status, "network")
        each = [times[i : i + len(PARTS)] for i in range(0, len(times), len(PARTS))]
        return Profile(out, [dict(zip(PARTS, stage, strict=True)) for stage in each], cycles.value)

    def run_bytes(self, pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> bool:
        """Upscales ``(H, W, channels)`` to ``(upscale H, upscale W, out_channels)``, uint8, rounded, ties to even.

        Args:
            pixels: A pixel's channels, and a row's pixels, one after another; rows may be apart.
            out: Likewise; is written.

        Returns:
            Whether all values were finite before they were rounded.

        Raises:
            LMBError: If the engine cannot run it.
        """
        height, width, _ = pixels.shape
        finite = ctypes.c_int()
        status = self.library.c.lmbq_network_run_bytes(
            self.handle, pixels.ctypes.data, pixels.strides[0], out.ctypes.data, out.strides[0], height, width,
            torch.get_num_threads(), ctypes.byref(finite),
        )  # fmt: skip
        self.library.check(status, "network")
        return bool(finite.value)


def _description(stage: StageArguments, kept: list[object]) -> StageDescription:
    tensors = {name: None if t is None else t.detach().float().contiguous() for name, t in stage.tensors.items()}
    kept += tensors.values()
    pointers = {name: None if t is None else t.data_ptr() for name, t in tensors.items()}
    description = StageDescription(
        struct_size=ctypes.sizeof(StageDescription), kind=STAGE_KINDS.index(stage.kind) + 1, **stage.numbers, **pointers
    )
    weight, slope = tensors.get("weight"), tensors.get("slope")
    description.weight_count = 0 if weight is None else weight.numel()
    description.slope_count = 0 if slope is None else slope.numel()
    if stage.layer is not None:
        arguments, inputs = stage.layer
        layer, held = described(arguments, inputs)
        kept += (layer, held)
        description.layer = ctypes.addressof(layer)
        description.layer_skip = arguments.skip
    return description
