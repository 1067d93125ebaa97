# SPDX-License-Identifier: Apache-2.0
"""What a network does to an image, found by trial runs: its SR factor, its channels, how far it looks."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lmb_quant.errors import LMBError, reason
from lmb_quant.modules import binary_convs
from lmb_quant.ops.network import EngineNetwork
from lmb_quant.stages import network_for
from lmb_quant.structure import copy_model
from lmb_quant.wrappers import unwrapped

_CHANNELS = (3, 1)
_SIDES = (24, 64)
_SUPPORT = {"linear": 1, "bilinear": 1, "bicubic": 2}
_TOLERANCE = 1e-4  # runs of one shape round alike on a CPU, not on every GPU


@dataclass(frozen=True)
class Traits:
    """What a trial run showed.

    ``upscale`` is the SR factor, ``channels`` those of the image. ``reach`` is how far from an output pixel the input
    pixels that it depends on can be, in LR pixels: the sum over all convolutions, windows, poolings and interpolations
    that ran, so an upper bound. It counts no operation that sees the whole image; ``sees_all`` says that a binary layer
    does. Tiles begin at multiples of ``alignment``, the network's stride. ``bytes_per_pixel`` is the largest feature
    map's share of one LR pixel.
    """

    channels: int
    upscale: int
    reach: int
    sees_all: bool
    alignment: int
    bytes_per_pixel: float


def evaluated(model: nn.Module) -> nn.Module:
    """The network as it runs: in eval mode, with nothing that another thread could change or see change.

    That is a copy of its modules that shares its tensors and calls its hooks: another thread may train the network, or
    upscale with it, at the same time. Exported programs, and where nothing has to change networks that are compiled
    (or otherwise wrapped) or cannot be copied, are taken as they are.

    Raises:
        LMBError: If it is in training mode or binary and cannot be copied, or a tensor of it is on the meta device.
    """
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise LMBError(f"model: {name!r} is on the meta device, without values. Load its state first.")
    runs_as_it_is = not any(module.training for module in model.modules()) and not any(binary_convs(model))
    inner = unwrapped(model)
    if isinstance(inner, fx.GraphModule) or (runs_as_it_is and inner is not model):
        return model
    shared = (*inner.parameters(), *inner.buffers(), *_hooks(inner))
    try:
        return copy_model(inner, {each: each for each in shared}).eval()
    except Exception as error:  # whatever a module raises that cannot be copied
        if runs_as_it_is:
            return model
        raise LMBError(
            f"model: it is in training mode or binary, and cannot be copied: {type(error).__name__}: {error}. Use "
            "model.eval() or convert()."
        ) from error


def _hooks(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        yield from module._forward_pre_hooks.values()
        yield from module._forward_hooks.values()


@contextmanager
def running(threads: int | None = None) -> Iterator[None]:
    """No gradients, and ``threads`` CPU threads for what this thread computes; those of other threads stay."""
    limit = nullcontext() if threads is None else _openmp().limit(limits=threads)
    with torch.inference_mode(), limit:
        yield


@functools.cache
def _openmp() -> ThreadpoolController:
    """PyTorch's threads; their number is a thread's own in OpenMP, while torch.set_num_threads is for the process."""
    return ThreadpoolController().select(user_api="openmp")


def run(model: nn.Module, x: Tensor) -> Tensor:
    """One run on ``(N, C, H, W)``, in the network's dtype and on its device; the result in those of ``x``.

    Raises:
        LMBError: If the network does not take it, has not enough memory, or gives NaN, infinities or no tensor.
    """
    like = next((t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point()), x)
    size = f"{x.shape[-2]} x {x.shape[-1]}"
    network = network_for(model, x)
    finite = None
    try:
        if network is not None:
            y, finite = network.run(x)
        else:
            y = model(x.to(like.device, like.dtype).contiguous(memory_format=torch.channels_last))
    except (RuntimeError, LMBError) as error:
        why = reason(error)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise LMBError(f"image: {size} pixels at a time do not fit into memory ({why}). Use tile=256.") from None
        raise LMBError(f"model: it does not run on an image of {size}: {why}") from error
    if not isinstance(y, Tensor) or y.ndim != 4:
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise LMBError(f"model: its result is {found}. Allowed: a tensor (N, C, H, W).")
    if finite is None:
        finite = all(math.isfinite(end) for end in y.detach().aminmax())  # one pass; NaN comes through
    check_finite(finite, size)
    return y.to(x.device, x.dtype)


def check_finite(finite: bool, size: str) -> None:
    """Refuses a result that is not.

    Raises:
        LMBError: If it is not finite.
    """
    if not finite:
        raise LMBError(f"model: its result for an image of {size} has NaN or infinities. Check its weights.")


def traits_of_stages(network: EngineNetwork) -> Traits:
    """What the stages of a network say, without a trial run."""
    return Traits(
        channels=network.channels,
        upscale=network.upscale,
        reach=network.reach + 1,
        sees_all=network.sees_all,
        alignment=1,
        bytes_per_pixel=network.bytes_per_pixel,
    )


def find_traits(model: nn.Module) -> Traits:
    """Runs a network, which is :func:`evaluated`, on a small random image.

    Raises:
        LMBError: If it runs on none that was tried, or does not upscale by a whole factor.
    """
    problem: LMBError | None = None
    for channels, side in ((channels, side) for channels in _CHANNELS for side in _SIDES):
        recorder = _Recorder(side)
        x = noise(channels, side)
        try:
            with torch.inference_mode(False), torch.no_grad(), recorder, _windows(model, recorder):
                y = run(model, x.clone())
        except LMBError as error:
            problem = problem or error
            continue
        return _traits(channels, side, y, recorder)
    assert problem is not None
    raise problem


def _traits(channels: int, side: int, y: Tensor, recorder: _Recorder) -> Traits:
    height, width = y.shape[2:]
    upscale = height // side
    if upscale < 1 or (height, width) != (upscale * side, upscale * side) or y.shape[:2] != (1, channels):
        raise LMBError(
            f"model: it makes {tuple(y.shape)} of (1, {channels}, {side}, {side}). Allowed: the same channels, height "
            "and width times a whole number."
        )
    finest = min(recorder.steps, default=1.0)  # positions round down at each change of size: less than one step
    alignment = max(1, math.ceil(1 / finest))
    return Traits(
        channels=channels,
        upscale=upscale,
        reach=math.ceil(sum(recorder.reaches)) + alignment if recorder.reaches else 0,
        sees_all=recorder.sees_all,
        alignment=alignment,
        bytes_per_pixel=recorder.largest / side**2,
    )


def is_local(model: nn.Module, traits: Traits) -> bool:
    """Whether the network, which is :func:`evaluated`, looks no further than ``reach``.

    Measured: pixels beyond it are replaced by very different ones, which must change nothing.
    """
    if traits.sees_all:
        return False
    step = traits.alignment
    near, ring, block = -(-traits.reach // step) * step, -(-8 // step) * step, -(-16 // step) * step
    x = noise(traits.channels, 2 * (ring + near) + block)
    changed = 0.9 + 0.1 * x
    inside = slice(ring, -ring)
    changed[:, :, inside, inside] = x[:, :, inside, inside]
    centre = slice((ring + near) * traits.upscale, (ring + near + block) * traits.upscale)
    one, other = (run(model, image)[:, :, centre, centre] for image in (x, changed))
    return bool((one - other).abs().max() <= _TOLERANCE)


def noise(channels: int, side: int) -> Tensor:
    """The same random image at each call, ``(1, channels, side, side)``, [0, 1); no global generator is touched."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, side, side, generator=generator, dtype=torch.float32, device="cpu")


class _Recorder(TorchDispatchMode):
    """Notes each operation that mixes pixels: how far it looks in LR pixels, and the size at which it works."""

    def __init__(self, side: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.side = side
        self.reaches: list[float] = []
        self.steps: list[float] = []
        self.sees_all = False
        self.largest = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import it: two seconds

    def note(self, x: Tensor, pixels: float) -> None:
        if pixels:
            ratio = x.shape[-2] / self.side
            self.reaches.append(pixels / ratio)
            self.steps.append(ratio)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | (kwargs or {})
        name = func._schema.name.rpartition("::")[2]
        if name in ("convolution", "avg_pool2d", "max_pool2d_with_indices") or name.startswith("binary_conv2d"):
            self.note(args[0], _kernel_reach(given))
            self.sees_all |= given.get("threshold") == "global"
        elif "upsample_" in name:
            support = next((pixels for word, pixels in _SUPPORT.items() if word in name), 1)
            self.note(args[0], support * max(1.0, args[0].shape[-2] / result.shape[-2]))
        elif name == "upscale_with_detail":
            self.note(args[0], _SUPPORT["bilinear"])
        elif name in ("reflection_pad2d", "replication_pad2d"):  # before an upscaling or convolution of own making
            self.note(args[0], max(args[1]))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel() * result.element_size())
        return result


def _kernel_reach(given: dict[str, Any]) -> float:
    """How far a convolution or pooling looks, pixels of its input; the larger side where it is not centred."""
    weight = given.get("weight")
    kernel = _all(weight.shape[2:] if isinstance(weight, Tensor) else given["kernel_size"])
    ends = [d * (k - 1) for k, d in zip(kernel, _all(given.get("dilation", 1)), strict=False)]
    if given.get("transposed"):
        return max(-(-end // step) for end, step in zip(ends, _all(given["stride"]), strict=False))
    padding = _all(given.get("padding", 0))
    window = given.get("window", 1) // 2
    return window + max(max(p, end - p) if end else 0 for end, p in zip(ends * 2, padding * 2, strict=False))


def _all(values: Sequence[int] | int) -> list[int]:
    return [values, values] if isinstance(values, int) else [*values] * (2 if len(values) == 1 else 1)


@contextmanager
def _windows(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Notes the local means of layers in their training form, which are no single operation."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        threshold = module.binarize_input.packed_threshold()  # type: ignore[union-attr, operator]
        if threshold is not None:
            recorder.note(args[0], threshold.window // 2)
            recorder.sees_all |= threshold.kind == "global"

    handles = [conv.register_forward_pre_hook(hook) for conv in binary_convs(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
