# SPDX-License-Identifier: Apache-2.0
"""Checks an option file in full before anything is created: keys, values, folders, images, network, checkpoint.

What can be tried is tried: the network is built, weights are loaded, optimiser, scheduler and hooks are made, images
are read (once; training uses the same ones).
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError, unknown_name

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from . import option_keys as keys
from .archs import registered
from .checkpoint import load_weights
from .data import HRImageDataset
from .hooks import make_hooks
from .optim import check_keywords, make_optimizer, make_scheduler
from .option_trials import try_loss, try_metric
from .options import build_of

_STOCK_OPTIMIZERS = ("Adam",)
_STOCK_SCHEDULERS = ("CosineAnnealingRestartLR", "MultiStepLR", "MultiStepRestartLR")
_CHECKED_MODELS = ("LMBModel", "SRModel")


def check_options(opt: dict[str, Any], place: str, *, is_train: bool) -> None:
    """Checks options as they stand in the file.

    Args:
        opt: The options; what may be left out and BasicSR wants is filled in.
        place: The file, for messages.
        is_train: Whether it is a file for training or for testing.

    Raises:
        LMBError: At the first thing that is wrong; names file, key, value and what is allowed.
    """
    checker = _Checker(opt, place, is_train=is_train)
    try:
        checker.check()
    except LMBError as error:
        message = str(error)
        raise LMBError(message if message.startswith(place) else f"{place}: {message}") from error.__cause__


def check_network(opt: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Checks the section ``network_g`` and returns it.

    Raises:
        LMBError: If it is missing, names no architecture, or the architecture has no such argument.
    """
    if not isinstance(opt.get("network_g"), Mapping):
        raise LMBError(f"{place}: the section 'network_g' is missing.")
    network: dict[str, Any] = _without_points(opt["network_g"])
    _check_architecture(network, f"{place}: network_g")
    return network


def _check_architecture(network: Mapping[str, Any], place: str) -> None:
    kind = network.get("type")
    architecture = registered(ARCH_REGISTRY, str(kind))
    if architecture is None:
        raise LMBError(f"{place}: {unknown_name('architecture', kind, ARCH_REGISTRY.keys())}")
    check_keywords(f"{place}: {kind}", architecture, {key: value for key, value in network.items() if key != "type"})
    if kind == "LMBBinarized":
        if not isinstance(network["arch"], Mapping):
            raise LMBError(f"{place}: arch: {network['arch']!r} is not allowed. Allowed: a mapping with 'type'.")
        _check_architecture(network["arch"], f"{place}.arch")


class _Checker:
    """Walks through one option file."""

    def __init__(self, opt: dict[str, Any], place: str, *, is_train: bool) -> None:
        self.opt, self.place, self.is_train = opt, place, is_train

    def check(self) -> None:
        required, allowed = (
            (keys.TRAIN_REQUIRED, keys.TRAIN_TOP) if self.is_train else (keys.TEST_REQUIRED, keys.TEST_TOP)
        )
        model = self.opt.get("model_type")
        if model is not None and registered(MODEL_REGISTRY, str(model)) is None:
            raise LMBError(f"model_type: {unknown_name('model', model, MODEL_REGISTRY.keys())}")
        if model is not None and model not in _CHECKED_MODELS:
            return  # another model's sections are its own
        _check_keys("", self.opt, allowed, required)
        for section in {"datasets", "network_g", "path", "train", "logger"} & set(required):
            if not isinstance(self.opt[section], dict):
                raise LMBError(f"{section}: {self.opt[section]!r} is not allowed. Allowed: a mapping.")
        if not isinstance(self.opt["name"], str) or self.opt["name"] in ("", ".", "..") or "/" in self.opt["name"]:
            raise LMBError(f"name: {self.opt['name']!r} is not allowed. Allowed: text without '/'.")
        for section in self.opt:
            if section not in ("network_g", "path"):
                self.opt[section] = _with_whole(section, section, self.opt[section])
        _check_switches("", self.opt)
        _check_keys("path", self.opt["path"], keys.PATH)
        _check_keys("dist_params", self.opt.get("dist_params") or {}, keys.DIST_PARAMS)
        self._check_val()
        if self.is_train:
            self._check_train_values()
        net = self._check_network()
        if self.is_train:
            self._check_training(net)
        self._check_datasets()

    def _check_val(self) -> None:
        if self.opt.get("val") is None:
            if self.is_train:
                self.opt.pop("val", None)
                return
            self.opt["val"] = {}
        val = self.opt["val"]
        _check_keys("val", val, keys.VAL, ("val_freq",) if self.is_train else ())
        val.setdefault("save_img", False)
        val.setdefault("suffix", None)
        for name, metric in (val.get("metrics") or {}).items():
            place = f"val.metrics.{name}"
            if not isinstance(metric, dict) or "type" not in metric:
                raise LMBError(f"{place}: the key 'type' is missing.")
            function = registered(METRIC_REGISTRY, str(metric["type"]))
            if function is None:
                raise LMBError(f"{place}: {unknown_name('metric', metric['type'], METRIC_REGISTRY.keys())}")
            kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
            named = [p.name for p in inspect.signature(function).parameters.values() if p.kind not in kinds]
            _check_keys(place, metric, [*(n for n in named if n not in ("img", "img2")), "type", "better"])
            if metric.get("better", "higher") not in ("higher", "lower"):
                raise LMBError(f"{place}.better: {metric['better']!r} is not allowed. Allowed: higher, lower.")
            try_metric(place, function, {k: value for k, value in metric.items() if k not in ("type", "better")})

    def _check_train_values(self) -> None:
        train, logger = self.opt["train"], self.opt["logger"]
        _check_keys("train", train, keys.TRAIN, ("optim_g", "scheduler", "total_iter"))
        decay = train.get("ema_decay", 0)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise LMBError(f"train.ema_decay: {decay!r} is not allowed. Allowed: 0 (off) or a number below 1.")
        if train.get("hooks") and self.opt["model_type"] != "LMBModel":
            raise LMBError(f"train.hooks: model_type {self.opt['model_type']!r} has no hooks. Allowed: LMBModel.")
        if not train.get("pixel_opt") and not train.get("perceptual_opt"):
            raise LMBError("train: neither 'pixel_opt' nor 'perceptual_opt' is given; there is no loss.")
        for section in ("pixel_opt", "perceptual_opt"):
            if train.get(section):
                self._check_loss(f"train.{section}", dict(train[section]))
        for section in ("optim_g", "scheduler"):
            if not isinstance(train[section], dict) or not isinstance(train[section].get("type"), str):
                raise LMBError(f"train.{section}: the key 'type' is missing.")
        _check_keys("logger", logger, keys.LOGGER, ("print_freq", "save_checkpoint_freq"))
        _check_keys("logger.wandb", logger.get("wandb") or {}, keys.WANDB)
        logger.setdefault("use_tb_logger", False)
        if logger["use_tb_logger"] and importlib.util.find_spec("tensorboard") is None:
            raise LMBError("logger.use_tb_logger: true needs TensorBoard: pip install tensorboard")

    def _check_loss(self, place: str, options: dict[str, Any]) -> None:
        kind = options.pop("type", None)
        loss = registered(LOSS_REGISTRY, str(kind))
        if loss is None:
            raise LMBError(f"{place}: {unknown_name('loss', kind, LOSS_REGISTRY.keys())}")
        check_keywords(f"{place}: {kind}", loss, options)
        if place == "train.pixel_opt":  # a perceptual loss would fetch a network
            try_loss(place, loss, options)

    def _check_network(self) -> nn.Module:
        network = self.opt["network_g"] = check_network(self.opt, self.place)
        inner = network["arch"] if network["type"] == "LMBBinarized" else network
        upscale = _argument(registered(ARCH_REGISTRY, inner["type"]), inner, ("upscale", "scale"))
        if upscale is not None and upscale != self.opt["scale"]:
            raise LMBError(f"scale: {self.opt['scale']!r} is not network_g's upscale, {upscale!r}.")
        net = build_of(self.place, network)
        path = self.opt["path"]
        if not self.is_train:
            path.setdefault("param_key_g", "params_ema")  # what validation measured; files without it: params
        if path.get("pretrain_network_g") is not None:
            strict = path.get("strict_load_g", True)
            weights = Path(path["pretrain_network_g"]).expanduser()
            try:
                load_weights(net, weights, param_key=path.get("param_key_g", "params"), strict=strict)
            except LMBError as error:
                raise LMBError(f"path.pretrain_network_g: {error}") from None
        return net

    def _check_training(self, net: nn.Module) -> None:
        train = self.opt["train"]
        optimizer, scheduler = dict(train["optim_g"]), dict(train["scheduler"])
        if self.opt["model_type"] == "SRModel":
            for section, kinds in (("optim_g", _STOCK_OPTIMIZERS), ("scheduler", _STOCK_SCHEDULERS)):
                if train[section]["type"] not in kinds:
                    what = unknown_name(f"{section} of model_type SRModel", train[section]["type"], kinds)
                    raise LMBError(f"train.{section}: {what} LMBModel has more.")
        made = make_optimizer(optimizer.pop("type"), list(net.parameters()), **optimizer)
        make_scheduler(scheduler.pop("type"), made, int(train["total_iter"]), **scheduler)
        for hook in make_hooks(train.get("hooks")):
            try:
                hook.check(self.opt)
            except LMBError as error:
                raise LMBError(f"train.hooks: {type(hook).__name__}: {error}") from None

    def _check_datasets(self) -> None:
        phases = self.opt["datasets"]
        if self.is_train and "train" not in phases:
            raise LMBError("datasets: the section 'train' is missing.")
        for phase, options in phases.items():
            place, kind = f"datasets.{phase}", phase.split("_")[0]
            if self.is_train and kind not in ("train", "val"):
                raise LMBError(f"datasets: {unknown_name('section', phase, ['train', 'val', 'val_2'])}")
            if not isinstance(options, dict):
                raise LMBError(f"{place}: {options!r} is not allowed. Allowed: a mapping.")
            _check_keys(place, options, options, ("name", "type"))
            if registered(DATASET_REGISTRY, str(options["type"])) is None:
                raise LMBError(f"{place}: {unknown_name('data set', options['type'], DATASET_REGISTRY.keys())}")
            if options["type"] in keys.DATASETS:
                allowed = ["name", "type", *keys.DATASETS[options["type"]], *keys.LOADER]
                _check_keys(place, options, allowed)
            if phase == "train":
                self._check_loader(place, options)
            self._check_folders(place, options, is_train=phase == "train")
        names = [options["name"] for options in phases.values()]
        for name in names:
            if names.count(name) > 1:
                raise LMBError(f"datasets: the name {name!r} is given twice; each section needs its own.")

    def _check_loader(self, place: str, options: dict[str, Any]) -> None:
        _check_keys(place, options, options, ("num_worker_per_gpu", "batch_size_per_gpu"))
        mode = options.get("prefetch_mode")
        if mode not in (None, "cpu", "cuda"):
            raise LMBError(f"{place}.prefetch_mode: {mode!r} is not allowed. Allowed: ~, cpu, cuda.")
        if mode == "cpu" and not options["num_worker_per_gpu"]:
            raise LMBError(f"{place}.prefetch_mode: cpu needs num_worker_per_gpu of 1 or more.")

    def _check_folders(self, place: str, options: dict[str, Any], *, is_train: bool) -> None:
        try:
            if options["type"] == "HRImageDataset":
                _check_keys("", options, options, ("dataroot_gt", "gt_size") if is_train else ("dataroot_gt",))
                phase = "train" if is_train else "val"
                HRImageDataset({**options, "phase": phase, "scale": self.opt["scale"]})
                return
            for key in ("dataroot_gt", "dataroot_lq"):
                folder = options.get(key)
                if isinstance(folder, str) and not Path(folder).expanduser().exists():
                    raise LMBError(f"{key}: there is no {folder!r} (looked for {Path(folder).absolute()}).")
        except LMBError as error:
            raise LMBError(f"{place}: {error}") from None


def _argument(architecture: Any, options: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The value of the first of these arguments that an architecture has."""
    parameters = inspect.signature(architecture).parameters
    for name in names:
        if name in parameters:
            default = parameters[name].default
            return options.get(name, None if default is inspect.Parameter.empty else default)
    return None


def _check_keys(place: str, options: Any, allowed: Collection[str], required: Collection[str] = ()) -> None:
    prefix = f"{place}: " if place else ""
    if not isinstance(options, dict):
        raise LMBError(f"{prefix}{options!r} is not allowed. Allowed: a mapping.")
    for key in options:
        if key not in allowed:
            raise LMBError(f"{prefix}{unknown_name('key', key, allowed)}")
    for key in required:
        if options.get(key) is None:
            raise LMBError(f"{prefix}the key {key!r} is missing.")


def _check_switches(place: str, options: Mapping[str, Any]) -> None:
    """Whatever is a switch is true or false, wherever it stands; text such as 'no' would count as true."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            _check_switches(f"{place}{key}.", value)
        elif key in keys.SWITCHES and value is not None and not isinstance(value, bool):
            raise LMBError(f"{place}{key}: {value!r} is not allowed. Allowed: true, false.")


def _with_whole(place: str, key: str, value: Any) -> Any:
    """A value in which whole numbers are so: 5e3, which YAML reads as a float and no host takes for a count, is one.

    Raises:
        LMBError: If a key of which the value is a whole number has another.
    """
    if isinstance(value, dict):
        return {name: _with_whole(f"{place}.{name}", name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole(f"{place}[{i}]", key, item) for i, item in enumerate(value)]
    if key not in keys.WHOLE or value is None or (key, value) == ("num_gpu", "auto"):
        return value
    least = keys.WHOLE[key]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value != int(value) or value < least:
        raise LMBError(f"{place}: {value!r} is not allowed. Allowed: a whole number, {least} or more.")
    return int(value)


def _without_points(value: Any) -> Any:
    """Arguments of a network, in which whole numbers written as floats become so; a recipe has a check of its own."""
    if isinstance(value, Mapping):
        return {key: item if key == "recipe" else _without_points(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_points(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
