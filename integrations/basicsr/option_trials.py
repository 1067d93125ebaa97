# SPDX-License-Identifier: Apache-2.0
"""What an option file names is made and tried: network, optimiser, losses, metrics, images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, named_reason
from lmb_quant.files import expanded
from lmb_quant.upscaling.network import noise

from basicsr.utils.registry import DATASET_REGISTRY

from .archs import registered
from .checkpoint import load_weights
from .data import HRImageDataset
from .hooks import make_hooks
from .networks import build_of
from .optim import make_optimizer, make_scheduler
from .option_schema import DATASETS
from .rng import isolated_rng

LEAST_SIDES = {"calculate_psnr": 1, "calculate_ssim": 11}
"""Pixels a side that a metric needs after its border was cropped: SSIM's window has 11."""

_SIDE = 48  # of an image whose size is not known: a multiple of the windows that networks have
_T = TypeVar("_T")


def try_network(opt: Mapping[str, Any], place: str) -> nn.Module:
    """Builds the network and loads the weights that it starts from.

    Args:
        opt: The options.
        place: The file, for messages.

    Raises:
        LMBError: If it cannot be built, or the weights are not its own.
    """
    net, path = build_of(place, dict(opt["network_g"])), opt["path"]
    if path.get("pretrain_network_g") is not None:
        weights = expanded(path["pretrain_network_g"])
        try:
            key = path.get("param_key_g", "params")
            load_weights(net, weights, param_key=key, strict=path.get("strict_load_g", True))
        except LMBError as error:
            raise LMBError(f"path.pretrain_network_g: {error}") from None
    return net


def sample_of(section: Mapping[str, Any], upscale: int) -> Tensor | None:
    """An image of random values, ``(1, C, H, W)``, as a data set gives it to the network; None if it is not known.

    Args:
        section: The section of the data set.
        upscale: SR factor.
    """
    if section["type"] not in DATASETS:
        return None
    channels = 1 if section.get("color") == "y" else 3
    side = (section.get("gt_size") or 0) // upscale or _SIDE
    return noise(channels, side)


def try_forward(net: nn.Module, image: Tensor, place: str, *, upscale: int) -> None:
    """Gives the network an image as a data set has it.

    Args:
        net: The network.
        image: The image, ``(1, C, H, W)``.
        place: Where the data set stands, for messages.
        upscale: SR factor.

    Raises:
        LMBError: If the network fails, or gives no image with as many channels, ``upscale`` times as large.
    """
    what = f"network_g: an image of {place}, {tuple(image.shape)}"
    try:
        with torch.no_grad(), isolated_rng():
            output = net(image)
    except Exception as error:  # architectures raise anything on an input that does not fit
        raise LMBError(f"{what}: the network fails: {named_reason(error)}") from error
    _, channels, height, width = image.shape
    wanted, found = (1, channels, height * upscale, width * upscale), getattr(output, "shape", None)
    if found != wanted:
        given = type(output).__name__ if found is None else tuple(found)
        raise LMBError(f"{what}: the network gives {given}. Allowed: {wanted}.")


def try_training(net: nn.Module, opt: dict[str, Any], image: Tensor | None) -> None:
    """Makes optimiser, scheduler and hooks.

    Args:
        net: The network.
        opt: The options.
        image: What :func:`sample_of` gives for the training images.

    Raises:
        LMBError: If one cannot be made, or a hook does not fit the options or the network.
    """
    train = opt["train"]
    optimizer, scheduler = dict(train["optim_g"]), dict(train["scheduler"])
    made = make_optimizer(optimizer.pop("type"), list(net.parameters()), **optimizer)
    make_scheduler(scheduler.pop("type"), made, train["total_iter"], **scheduler)
    for hook in make_hooks(train.get("hooks")):
        try:
            hook.check(opt, net, image)
        except LMBError as error:
            raise LMBError(f"train.hooks: {type(hook).__name__}: {error}") from None


def try_images(options: Mapping[str, Any], place: str, *, upscale: int, is_train: bool) -> int | None:
    """Makes a data set whose kind is known, once, or looks for the folders of another kind.

    Of ours every image is read; training uses the same ones. Of BasicSR's the first is.

    Args:
        options: The section of the data set.
        place: Where it stands, for messages.
        upscale: SR factor.
        is_train: Whether it is trained on.

    Returns:
        Pixels of the shortest side of its HR images, or of the first one's of BasicSR's; None where it is not known.

    Raises:
        LMBError: If a folder is missing, or an image cannot be used.
    """
    own = copy.deepcopy(dict(options)) | {"phase": "train" if is_train else "val", "scale": upscale}
    try:
        if options["type"] == "HRImageDataset":
            return HRImageDataset(own).shortest_side
        for key in ("dataroot_gt", "dataroot_lq"):
            if isinstance(own.get(key), str):
                folder = expanded(own[key])
                if not folder.exists():
                    raise LMBError(f"{key}: there is no {own[key]!r} (looked for {folder.absolute()}).")
                own[key] = str(folder)
    except LMBError as error:
        raise LMBError(f"{place}: {error}") from None
    if options["type"] in DATASETS:
        with isolated_rng():
            item = _attempt(place, lambda: registered(DATASET_REGISTRY, options["type"])(own)[0])
        return min(item["gt"].shape[-2:]) if "gt" in item else None
    return None


def try_loss(place: str, loss: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Makes a loss of pixels and applies it.

    Args:
        place: Where it stands in the option file, for messages.
        loss: Its class.
        options: The arguments of the class.

    Raises:
        LMBError: If it cannot be made, fails, or does not give one finite number.
    """
    image = torch.rand(1, 3, 8, 8)
    found = _attempt(place, lambda: loss(**options)(image, image.flip(-1)))
    if not isinstance(found, torch.Tensor) or found.ndim or not found.isfinite():
        raise LMBError(f"{place}: with these arguments it gives no single finite number. Is reduction 'mean' or 'sum'?")


def try_metric(place: str, metric: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Applies PSNR or SSIM; what other metrics need of an image is their own affair.

    Args:
        place: Where it stands in the option file, for messages.
        metric: The function.
        options: Its arguments beside the two images.

    Raises:
        LMBError: If an argument is not allowed, or it fails.
    """
    if getattr(metric, "__name__", "") not in LEAST_SIDES:
        return
    border = options.get("crop_border", 0)
    side = 2 * border + max(LEAST_SIDES.values())
    shape = (3, side, side) if options.get("input_order") == "CHW" else (side, side, 3)
    image = np.zeros(shape, np.uint8)
    _attempt(place, lambda: metric(image, image, **options))


def _attempt(place: str, function: Callable[[], _T]) -> _T:
    try:
        return function()
    except LMBError:
        raise
    except Exception as error:  # hosts raise anything on odd values
        raise LMBError(f"{place}: it fails with these arguments: {type(error).__name__}: {error}") from error
