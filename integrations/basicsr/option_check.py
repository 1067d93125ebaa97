# SPDX-License-Identifier: Apache-2.0
"""Checks an option file in full before anything is created: its schema, its names, what fits what; then the trials."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pydantic import BaseModel

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.integrations._keywords import check_keywords
from lmb_quant.strict_data import validate

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from . import option_schema as schema
from . import option_trials as trials
from .archs import registered
from .networks import check_network, innermost

_STOCK_OPTIMIZERS = ("Adam",)
_STOCK_SCHEDULERS = ("CosineAnnealingRestartLR", "MultiStepLR", "MultiStepRestartLR")
_CHECKED_MODELS = ("LMBModel", "SRModel")


def check_options(opt: dict[str, Any], place: str, *, is_train: bool, with_images: bool = True) -> None:
    """Checks options as they stand in the file.

    Args:
        opt: The options; whole numbers become ints, and what may be left out and BasicSR wants is filled in.
        place: The file, for messages.
        is_train: Whether it is a file for training or for testing.
        with_images: Whether the images of the data sets are read.

    Raises:
        LMBError: At the first thing that is wrong; names file, key, value and what is allowed.
    """
    model = opt.get("model_type")
    try:
        if model is not None and registered(MODEL_REGISTRY, str(model)) is None:
            raise LMBError(f"model_type: {unknown_name('model', model, MODEL_REGISTRY.keys())}")
        if model is None or model in _CHECKED_MODELS:  # another model's sections are its own
            _check(opt, place, is_train=is_train, with_images=with_images)
    except LMBError as error:
        message = str(error)
        raise LMBError(message if message.startswith(place) else f"{place}: {message}") from error.__cause__


def _check(opt: dict[str, Any], place: str, *, is_train: bool, with_images: bool) -> None:
    kind = schema.TrainOptions if is_train else schema.TestOptions
    options = validate(kind, opt, place)
    _adopt(opt, options)
    if options.num_gpu != "auto" and options.num_gpu > torch.cuda.device_count():
        raise LMBError(
            f"num_gpu: {options.num_gpu} is not allowed: PyTorch can use {torch.cuda.device_count()} GPUs here. "
            "Allowed: that many at most, or auto; 0 is the CPU."
        )
    datasets = _check_datasets(options.datasets, place, is_train=is_train)
    for phase, dataset in datasets.items():
        _adopt(opt["datasets"][phase], dataset)
        if isinstance(dataset, schema.PairedImages):
            opt["datasets"][phase] |= {"use_hflip": dataset.use_hflip, "use_rot": dataset.use_rot}
    _check_val(opt, is_train=is_train)
    if isinstance(options, schema.TrainOptions):
        _check_train(options)
        opt["logger"].setdefault("use_tb_logger", False)
    network = opt["network_g"] = check_network(opt, place)
    upscale = _upscale_of(innermost(network))
    if upscale is not None and upscale != options.scale:
        raise LMBError(f"scale: {options.scale!r} is not network_g's upscale, {upscale!r}.")
    if not is_train:
        opt["path"].setdefault("param_key_g", "params_ema")  # what validation measured; files without it: params
    net = trials.try_network(opt, place).train(is_train)
    samples = {phase: trials.sample_of(section, options.scale) for phase, section in opt["datasets"].items()}
    tried: set[torch.Size] = set()
    for phase, sample in samples.items():
        if sample is not None and sample.shape not in tried:
            tried.add(sample.shape)
            trials.try_forward(net, sample, f"datasets.{phase}", upscale=options.scale)
    if is_train:
        trials.try_training(net, opt, samples["train"])
    for phase, section in opt["datasets"].items() if with_images else ():
        side = trials.try_images(section, f"datasets.{phase}", upscale=options.scale, is_train=phase == "train")
        if phase != "train" and side is not None:
            _check_borders(opt.get("val", {}).get("metrics") or {}, f"datasets.{phase}", side)


def _adopt(opt: dict[str, Any], section: BaseModel) -> None:
    """Takes values as the schema read them over into the options, and drops keys without one."""
    for key in [key for key in opt if key in type(section).model_fields]:
        value = getattr(section, key)
        if opt[key] is None:
            if key != "param_key_g":  # there ~ says that the file is a bare state dict
                del opt[key]
        elif isinstance(value, BaseModel):
            _adopt(opt[key], value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, BaseModel):
                    _adopt(opt[key][name], inner)
        else:
            opt[key] = value


def _check_datasets(sections: Mapping[str, dict[str, Any]], place: str, *, is_train: bool) -> dict[str, schema.Dataset]:
    if is_train and "train" not in sections:
        raise LMBError("datasets: the section 'train' is missing.")
    found: dict[str, schema.Dataset] = {}
    for phase, section in sections.items():
        known = ("train", "val", "val_2") if is_train else ("test", "test_1", "val")
        if phase.split("_")[0] not in known:
            raise LMBError(f"datasets: {unknown_name('section', phase, known)}")
        kind = section.get("type")
        if kind is not None and registered(DATASET_REGISTRY, str(kind)) is None:
            raise LMBError(f"datasets.{phase}: {unknown_name('data set', kind, DATASET_REGISTRY.keys())}")
        model = schema.DATASETS.get(str(kind), schema.OtherDataset)
        dataset = validate(model, section, place, section=("datasets", phase))
        if phase == "train":
            _check_loader(dataset, f"datasets.{phase}")
        if dataset.name in [each.name for each in found.values()]:
            raise LMBError(f"datasets: the name {dataset.name!r} is given twice; each section needs its own.")
        found[phase] = dataset
    return found


def _check_loader(dataset: schema.Dataset, place: str) -> None:
    needed = ["num_worker_per_gpu", "batch_size_per_gpu"]
    if isinstance(dataset, (schema.HRImages, schema.PairedImages)):
        needed.append("gt_size")
    for key in needed:
        if getattr(dataset, key) is None:
            raise LMBError(f"{place}: the key {key!r} is missing.")
    if not dataset.use_shuffle:
        raise LMBError(
            f"{place}.use_shuffle: False is not allowed. Allowed: true; training images are always shuffled."
        )
    if dataset.prefetch_mode == "cpu" and not dataset.num_worker_per_gpu:
        raise LMBError(f"{place}.prefetch_mode: cpu needs num_worker_per_gpu of 1 or more.")
    if dataset.prefetch_mode == "cuda" and not (dataset.pin_memory and torch.cuda.is_available()):
        raise LMBError(f"{place}.prefetch_mode: cuda needs pin_memory: true and a GPU.")


def _check_val(opt: dict[str, Any], *, is_train: bool) -> None:
    """Fills in what BasicSR reads, and tries the metrics."""
    if opt.get("val") is None:
        opt.pop("val", None)
        if is_train:
            return
    val = opt.setdefault("val", {})
    for key, value in (("save_img", False), ("suffix", None)):
        val.setdefault(key, value)
    for name, metric in (val.get("metrics") or {}).items():
        place = f"val.metrics.{name}"
        function = registered(METRIC_REGISTRY, metric["type"])
        if function is None:
            raise LMBError(f"{place}: {unknown_name('metric', metric['type'], METRIC_REGISTRY.keys())}")
        arguments = {key: value for key, value in metric.items() if key not in ("type", "better")}
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        parameters = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind not in kinds}
        allowed = {*parameters, "type", "better"} - {"img", "img2"}
        for key, value in arguments.items():
            if key not in allowed:
                raise LMBError(f"{place}: {unknown_name('key', key, allowed)}")
            if isinstance(parameters[key], bool) and not isinstance(value, bool):
                raise LMBError(f"{place}.{key}: {value!r} is not allowed. Allowed: true, false.")
        trials.try_metric(place, function, arguments)


def _check_borders(metrics: Mapping[str, Mapping[str, Any]], place: str, side: int) -> None:
    """Refuses a border that leaves nothing of the smallest image, whose least side is ``side``."""
    for name, metric in metrics.items():
        border, least = metric.get("crop_border") or 0, trials.LEAST_SIDES.get(metric["type"])
        if least is not None and border > (most := max((side - least) // 2, 0)):
            raise LMBError(
                f"val.metrics.{name}.crop_border: {border} is not allowed: an image of {place} has {side} pixels a "
                f"side. Allowed: 0 to {most}."
            )


def _check_train(options: schema.TrainOptions) -> None:
    train, is_stock = options.train, options.model_type == "SRModel"
    if train.hooks and is_stock:
        raise LMBError("train.hooks: model_type 'SRModel' has no hooks. Allowed: LMBModel.")
    if train.pixel_opt is None and train.perceptual_opt is None:
        raise LMBError("train: neither 'pixel_opt' nor 'perceptual_opt' is given; there is no loss.")
    for section, loss in (("pixel_opt", train.pixel_opt), ("perceptual_opt", train.perceptual_opt)):
        if loss is not None:
            _check_loss(f"train.{section}", loss)
    stock = (("optim_g", train.optim_g, _STOCK_OPTIMIZERS), ("scheduler", train.scheduler, _STOCK_SCHEDULERS))
    for section, part, kinds in stock:
        if is_stock and part.type not in kinds:
            what = unknown_name(f"{section} of model_type SRModel", part.type, kinds)
            raise LMBError(f"train.{section}: {what} LMBModel has more.")
    logger = options.logger
    if logger.use_tb_logger and importlib.util.find_spec("tensorboard") is None:
        raise LMBError("logger.use_tb_logger: true needs TensorBoard: pip install tensorboard")
    if logger.wandb is not None and logger.wandb.project is not None:
        if not logger.use_tb_logger:
            raise LMBError("logger.wandb: BasicSR sends TensorBoard's log. Set logger.use_tb_logger: true.")
        if importlib.util.find_spec("wandb") is None:
            raise LMBError("logger.wandb: it needs the package wandb: pip install wandb")


def _check_loss(place: str, options: schema.Named) -> None:
    loss, arguments = registered(LOSS_REGISTRY, options.type), options.model_extra or {}
    if loss is None:
        raise LMBError(f"{place}: {unknown_name('loss', options.type, LOSS_REGISTRY.keys())}")
    check_keywords(f"{place}: {options.type}", loss, arguments)
    if place == "train.pixel_opt":  # a perceptual loss would fetch a network
        trials.try_loss(place, loss, arguments)


def _upscale_of(network: Mapping[str, Any], names: Iterable[str] = ("upscale", "scale")) -> Any:
    """The SR factor of ``network_g``; None if its architecture has no such argument."""
    parameters = inspect.signature(registered(ARCH_REGISTRY, network["type"])).parameters
    for name in names:
        if name in parameters:
            default = parameters[name].default
            return network.get(name, None if default is inspect.Parameter.empty else default)
    return None
