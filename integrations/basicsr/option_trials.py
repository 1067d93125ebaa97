# SPDX-License-Identifier: Apache-2.0
"""What an option file names is made and tried: network, optimiser, losses, metrics, images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from lmb_quant.errors import LMBError

from .checkpoint import load_weights
from .data import HRImageDataset
from .hooks import make_hooks
from .networks import build_of
from .optim import make_optimizer, make_scheduler

_METRICS = ("calculate_psnr", "calculate_ssim")
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
        weights = Path(path["pretrain_network_g"]).expanduser()
        try:
            key = path.get("param_key_g", "params")
            load_weights(net, weights, param_key=key, strict=path.get("strict_load_g", True))
        except LMBError as error:
            raise LMBError(f"path.pretrain_network_g: {error}") from None
    return net


def try_training(net: nn.Module, opt: dict[str, Any]) -> None:
    """Makes optimiser, scheduler and hooks.

    Raises:
        LMBError: If one cannot be made, or a hook does not fit the options.
    """
    train = opt["train"]
    optimizer, scheduler = dict(train["optim_g"]), dict(train["scheduler"])
    made = make_optimizer(optimizer.pop("type"), list(net.parameters()), **optimizer)
    make_scheduler(scheduler.pop("type"), made, train["total_iter"], **scheduler)
    for hook in make_hooks(train.get("hooks")):
        try:
            hook.check(opt)
        except LMBError as error:
            raise LMBError(f"train.hooks: {type(hook).__name__}: {error}") from None


def try_images(options: Mapping[str, Any], place: str, *, upscale: int, is_train: bool) -> None:
    """Reads the images of a data set (once; training uses the same ones), or looks for the folders of another kind.

    Args:
        options: The section of the data set.
        place: Where it stands, for messages.
        upscale: SR factor.
        is_train: Whether it is trained on.

    Raises:
        LMBError: If a folder is missing, or an image cannot be used.
    """
    try:
        if options["type"] == "HRImageDataset":
            HRImageDataset({**options, "phase": "train" if is_train else "val", "scale": upscale})
            return
        for key in ("dataroot_gt", "dataroot_lq"):
            folder = options.get(key)
            if isinstance(folder, str) and not Path(folder).expanduser().exists():
                raise LMBError(f"{key}: there is no {folder!r} (looked for {Path(folder).absolute()}).")
    except LMBError as error:
        raise LMBError(f"{place}: {error}") from None


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
    if getattr(metric, "__name__", "") not in _METRICS:
        return
    border = options.get("crop_border", 0)
    side = 2 * border + 16  # SSIM's window has 11 pixels
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
