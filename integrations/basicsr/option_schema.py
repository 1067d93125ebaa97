# SPDX-License-Identifier: Apache-2.0
"""What an option file may hold: sections, keys, kinds of values, ranges. Data only; names are looked up elsewhere.

A key without a value (``key: ~``) counts as not given. A whole number may be written as 5e3, which YAML reads as a
float; it becomes an int.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from .numbers import is_number


def _allowed(words: str, fits: Callable[[Any], bool]) -> BeforeValidator:
    """Refuses what does not fit; the message says in words what is allowed."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise PydanticCustomError("not_allowed", "Allowed: {words}", {"words": words})
        return value

    return BeforeValidator(check)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value


def _is_folders(value: Any) -> bool:
    folders = value if isinstance(value, list) else [value]
    return bool(folders) and all(isinstance(folder, str) for folder in folders)


def _whole(least: int, *others: str, most: float = math.inf) -> BeforeValidator:
    """Makes an int of a whole number; also allows some words."""
    limit = [] if most == math.inf else [f"{most} at most"]
    words = ", ".join((f"a whole number, {least} or more", *limit, *others))

    def whole(value: Any) -> Any:
        if isinstance(value, str) and value in others:
            return value
        if not is_number(value) or value != int(value) or not least <= value <= most:
            raise PydanticCustomError("not_allowed", "Allowed: {words}", {"words": words})
        return int(value)

    return BeforeValidator(whole)


_Count = Annotated[int, _whole(1)]
_Patch = Annotated[int, _whole(1, most=4096)]
_Whole = Annotated[int, _whole(0)]
_Switch = Annotated[bool, _allowed("true, false", lambda value: isinstance(value, bool))]
_Text = Annotated[str, _allowed("text", lambda value: isinstance(value, str))]
_Mapping = Annotated[dict[str, Any], _allowed("a mapping", lambda value: isinstance(value, dict))]
_Folders = Annotated[str | list[str], _allowed("a folder, or a list of folders", _is_folders)]
_Name = Annotated[str, _allowed("text without '/'", _is_name)]
_Decay = Annotated[float, _allowed("0 (off) or a number below 1", lambda value: is_number(value) and 0 <= value < 1)]
_Size = Annotated[float, _allowed("a number, 0 or more", lambda value: is_number(value) and value >= 0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _given(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise PydanticCustomError("not_allowed", "Allowed: a mapping")
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


class Named(_Section):
    """Something that a registry makes: ``type``, and arguments that only its maker knows."""

    model_config = ConfigDict(extra="allow")
    type: _Text


class Optimizer(Named):
    """``train.optim_g``."""

    lr: _Size | None = None


class Scheduler(Named):
    """``train.scheduler``; the keys here are iterations."""

    T_max: _Count | None = None
    periods: list[_Count] | None = None
    milestones: list[_Whole] | None = None


class Metric(Named):
    """A metric of ``val.metrics``."""

    crop_border: _Whole | None = None
    better: Literal["higher", "lower"] = "higher"


class Dataset(_Section):
    """What every data set may have: its name, and what the loader reads. For training, the first two are needed."""

    name: _Name
    type: _Text
    num_worker_per_gpu: _Whole | None = None
    batch_size_per_gpu: _Count | None = None
    dataset_enlarge_ratio: _Count = 1
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: _Count = 1
    pin_memory: _Switch = False
    persistent_workers: _Switch = False
    use_shuffle: _Switch = True


class OtherDataset(Dataset):
    """A data set whose other keys are not known here."""

    model_config = ConfigDict(extra="allow")
    use_hflip: _Switch = True
    use_rot: _Switch = True


class HRImages(Dataset):
    """``HRImageDataset``."""

    dataroot_gt: _Folders
    gt_size: _Patch | None = None
    skip_small: _Switch = False
    use_hflip: _Switch = True
    use_rot: _Switch = True
    color: _Text | None = None
    degradation: _Mapping | None = None
    interpolated: Any = None
    cache_gb: _Size = 4


class SingleImages(Dataset):
    """BasicSR's ``SingleImageDataset``."""

    dataroot_lq: _Text
    meta_info_file: _Text | None = None
    io_backend: Named
    color: _Text | None = None
    mean: Any = None
    std: Any = None


class PairedImages(SingleImages):
    """BasicSR's ``PairedImageDataset``."""

    dataroot_gt: _Text
    filename_tmpl: _Text | None = None
    gt_size: _Patch | None = None
    use_hflip: _Switch = True
    use_rot: _Switch = True


DATASETS: dict[str, type[Dataset]] = {
    "HRImageDataset": HRImages,
    "PairedImageDataset": PairedImages,
    "SingleImageDataset": SingleImages,
}


class Paths(_Section):
    """``path``."""

    pretrain_network_g: _Text | None = None
    param_key_g: _Text | None = None
    strict_load_g: _Switch = True
    pretrain_network_teacher: _Text | None = None
    resume_state: _Text | None = None
    ignore_resume_networks: Any = None


class Train(_Section):
    """``train``; what ``hooks`` may hold, the hooks know."""

    ema_decay: _Decay = 0
    optim_g: Optimizer
    scheduler: Scheduler
    total_iter: _Count
    warmup_iter: Annotated[int, _whole(-1)] = -1
    pixel_opt: Named | None = None
    perceptual_opt: Named | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    hooks: Any = None


class Val(_Section):
    """``val`` of a test."""

    val_freq: _Count | None = None
    save_img: _Switch = False
    pbar: _Switch = False
    suffix: str | int | None = None
    metrics: dict[str, Metric] = {}


class TrainVal(Val):
    """``val`` of a training."""

    val_freq: _Count


class Wandb(_Section):
    """``logger.wandb``."""

    project: _Text | None = None
    resume_id: _Text | None = None


class Logger(_Section):
    """``logger``."""

    print_freq: _Count
    save_checkpoint_freq: _Count
    use_tb_logger: _Switch = False
    wandb: Wandb | None = None


class DistParams(_Section):
    """``dist_params``."""

    backend: _Text | None = None
    port: _Count | None = None


class Options(_Section):
    """An option file. Each data set is validated by its own model in ``DATASETS``."""

    name: _Name
    model_type: _Text
    scale: _Count
    num_gpu: Annotated[int | Literal["auto"], _whole(0, "auto")]
    manual_seed: Annotated[int, _whole(0, most=2**32 - 1)] | None = None
    find_unused_parameters: _Switch = False
    dist_params: DistParams | None = None
    datasets: dict[str, _Mapping]
    network_g: _Mapping
    path: Paths


class TestOptions(Options):
    """An option file for testing."""

    __test__ = False  # for pytest, which would take it for tests
    val: Val = Val()


class TrainOptions(Options):
    """An option file for training."""

    train: Train
    val: TrainVal | None = None
    logger: Logger
