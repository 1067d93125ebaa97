# SPDX-License-Identifier: Apache-2.0
"""Makes BasicSR 1.4.2 work on today's Python, PyTorch, SciPy and OpenCV, and on machines without a GPU.

Applied once, when this module is imported; nothing in site-packages is changed. Each fix is one small function that
says what it is for, and does nothing where the trouble is not there.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lmb_quant.errors import LMBError
from lmb_quant.integrations._missing import MissingHostError, needed
from lmb_quant.integrations._torchvision import import_torchvision

_applied: list[str] = []


class MissingBasicSRError(MissingHostError):
    """BasicSR, or a package it needs, cannot be imported; the message holds the command that installs it."""


def applied_fixes() -> list[str]:
    """What was repaired in BasicSR and its dependencies in this process, one line a fix, in the order applied."""
    return list(_applied)


def record_fix(text: str) -> None:
    """Adds one line to :func:`applied_fixes`, once."""
    if text not in _applied:
        _applied.append(text)


def _torchvision_operators() -> None:
    """PyPI's torchvision is a CUDA build: with a CPU torch its operators do not load, and it fails to import."""
    if import_torchvision():
        record_fix("torchvision is imported without its compiled operators, which do not fit this torch")


def _alias(name: str, **attributes: Any) -> None:
    """Puts a module in place of one that is gone; a real one is left alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except ImportError:
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
        record_fix(f"{name}, which is gone, is replaced by {', '.join(attributes)}")


def _functional_tensor() -> None:
    """torchvision.transforms.functional_tensor is gone since torchvision 0.17; basicsr.data.degradations imports it."""
    functional = importlib.import_module("torchvision.transforms.functional")
    _alias("torchvision.transforms.functional_tensor", rgb_to_grayscale=functional.rgb_to_grayscale)


def _scipy_filters() -> None:
    """scipy.ndimage.filters goes with SciPy 2.0; basicsr.metrics.niqe imports it."""
    _alias("scipy.ndimage.filters", convolve=importlib.import_module("scipy.ndimage").convolve)


def _distutils() -> None:
    """Python 3.12 and later have no distutils unless setuptools is there; basicsr.archs.arch_util compares versions."""
    try:
        importlib.import_module("distutils.version")
    except ImportError:
        version = types.ModuleType("distutils.version")
        vars(version)["LooseVersion"] = importlib.import_module("torch.torch_version").TorchVersion
        package = types.ModuleType("distutils")
        vars(package)["version"] = version
        sys.modules.update({"distutils": package, "distutils.version": version})
        record_fix("distutils.version.LooseVersion, which is gone, is replaced by torch's")


def _init_dist() -> None:
    """init_dist takes ``rank % device_count`` (a division by zero without a GPU) and makes data loading spawn.

    Spawned loader processes would each get a copy of the cached images; forked ones share them.
    """
    options: Any = importlib.import_module("basicsr.utils.options")
    original = options.init_dist

    @functools.wraps(original)
    def init_dist(launcher: str, **kwargs: Any) -> None:
        if launcher != "pytorch":
            original(launcher, **kwargs)
            return
        if "LOCAL_RANK" not in os.environ:
            raise LMBError("--launcher: 'pytorch' needs torchrun: torchrun --nproc_per_node=N -m MODULE -opt FILE ...")
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            backend = "cpu:gloo,cuda:nccl"
        torch.distributed.init_process_group(backend=backend)

    options.init_dist = init_dist
    record_fix("init_dist: gloo where there is no GPU, the device by LOCAL_RANK, data loading by fork")


def _ddp_on_cpu() -> None:
    """model_to_device asks for the current CUDA device, whatever the network's own device is."""
    base: Any = importlib.import_module("basicsr.models.base_model").BaseModel
    original = base.model_to_device

    @functools.wraps(original)
    def model_to_device(self: Any, net: nn.Module) -> nn.Module:
        if self.device.type == "cpu" and self.opt["dist"]:
            unused = self.opt.get("find_unused_parameters", False)
            return nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)
        return original(self, net)

    base.model_to_device = model_to_device
    record_fix("model_to_device: DistributedDataParallel on the CPU")


def _ema_buffers() -> None:
    """model_ema averages parameters and leaves buffers at their start: with BatchNorm 21 dB instead of 33 dB."""
    base: Any = importlib.import_module("basicsr.models.base_model").BaseModel
    original = base.model_ema

    @functools.wraps(original)
    def model_ema(self: Any, decay: float = 0.999) -> None:
        original(self, decay)
        source = dict(self.get_bare_model(self.net_g).named_buffers())
        with torch.no_grad():
            for name, buffer in self.net_g_ema.named_buffers():
                buffer.resize_as_(source[name]).copy_(source[name])  # observers of int8 training change their shape

    base.model_ema = model_ema
    record_fix("model_ema: buffers (BatchNorm statistics) follow the trained network")


def _lists_of_folders() -> None:
    """parse_options expands ``~`` in dataroot_gt, which for HRImageDataset may be a list of folders."""
    options: Any = importlib.import_module("basicsr.utils.options")

    def expanduser(path: Any) -> Any:
        return [os.path.expanduser(part) for part in path] if isinstance(path, list) else os.path.expanduser(path)

    options.osp = types.SimpleNamespace(**{**vars(os.path), "expanduser": expanduser})
    record_fix("parse_options: dataroot_gt may be a list of folders")


def _names_of_archives() -> None:
    """mkdir_and_rename counts seconds: a run that is begun twice within one would be archived under one name twice."""
    misc: Any = importlib.import_module("basicsr.utils.misc")
    train: Any = importlib.import_module("basicsr.train")
    original = misc.mkdir_and_rename

    @functools.wraps(original)
    def mkdir_and_rename(path: str) -> None:
        while os.path.exists(path) and os.path.exists(f"{path}_archived_{misc.get_time_str()}"):
            time.sleep(0.1)
        original(path)

    misc.mkdir_and_rename = train.mkdir_and_rename = mkdir_and_rename
    record_fix("mkdir_and_rename: waits where a run of this second has taken the name")


def _wandb_run_id() -> None:
    """Wandb 0.28.2 and later have no wandb.util.generate_id."""
    train: Any = importlib.import_module("basicsr.train")
    original = train.init_wandb_logger

    @functools.wraps(original)
    def init_wandb_logger(opt: dict[str, Any]) -> Any:
        wandb = importlib.import_module("wandb")
        if not hasattr(wandb.util, "generate_id"):
            wandb.util.generate_id = lambda length=8: os.urandom((length + 1) // 2).hex()[:length]
        return original(opt)

    train.init_wandb_logger = init_wandb_logger
    record_fix("init_wandb_logger: a run id without wandb.util.generate_id")


def _whole_jpeg_quality() -> None:
    """cv2.imencode takes whole numbers only since OpenCV 4.5.4; add_jpg_compression gives it a float."""
    degradations: Any = importlib.import_module("basicsr.data.degradations")
    original = degradations.add_jpg_compression

    @functools.wraps(original)
    def add_jpg_compression(img: Any, quality: float = 90) -> Any:
        return original(img, round(quality))

    degradations.add_jpg_compression = add_jpg_compression
    record_fix("add_jpg_compression: whole-number quality")


_BEFORE_IMPORT: tuple[Callable[[], None], ...] = (
    _torchvision_operators,
    _functional_tensor,
    _scipy_filters,
    _distutils,
)
_AFTER_IMPORT: tuple[Callable[[], None], ...] = (
    _init_dist,
    _ddp_on_cpu,
    _ema_buffers,
    _lists_of_folders,
    _names_of_archives,
    _wandb_run_id,
    _whole_jpeg_quality,
)


def _apply() -> None:
    with needed("basicsr", MissingBasicSRError):
        for fix in _BEFORE_IMPORT:
            fix()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module("basicsr.train")
            importlib.import_module("basicsr.test")
    for fix in _AFTER_IMPORT:
        fix()


_apply()
