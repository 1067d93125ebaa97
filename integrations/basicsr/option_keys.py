# SPDX-License-Identifier: Apache-2.0
"""The keys that an option file may hold, section by section."""

from __future__ import annotations

TRAIN_TOP = [
    "name",
    "model_type",
    "scale",
    "num_gpu",
    "manual_seed",
    "find_unused_parameters",
    "dist_params",
    "datasets",
    "network_g",
    "path",
    "train",
    "val",
    "logger",
]
TEST_TOP = [
    "name",
    "model_type",
    "scale",
    "num_gpu",
    "manual_seed",
    "find_unused_parameters",
    "dist_params",
    "datasets",
    "network_g",
    "path",
    "val",
]

TRAIN_REQUIRED = ["name", "model_type", "scale", "num_gpu", "datasets", "network_g", "path", "train", "logger"]
TEST_REQUIRED = ["name", "model_type", "scale", "num_gpu", "datasets", "network_g", "path"]

PATH = [
    "pretrain_network_g",
    "param_key_g",
    "strict_load_g",
    "pretrain_network_teacher",
    "resume_state",
    "ignore_resume_networks",
]
TRAIN = ["ema_decay", "optim_g", "scheduler", "total_iter", "warmup_iter", "pixel_opt", "perceptual_opt", "hooks"]
VAL = ["val_freq", "save_img", "pbar", "suffix", "metrics"]
LOGGER = ["print_freq", "save_checkpoint_freq", "use_tb_logger", "wandb"]
WANDB = ["project", "resume_id"]
DIST_PARAMS = ["backend", "port"]

LOADER = [
    "num_worker_per_gpu",
    "batch_size_per_gpu",
    "dataset_enlarge_ratio",
    "prefetch_mode",
    "num_prefetch_queue",
    "pin_memory",
    "persistent_workers",
    "use_shuffle",
]
WHOLE = {
    "batch_size_per_gpu": 1,
    "crop_border": 0,
    "dataset_enlarge_ratio": 1,
    "gt_size": 1,
    "manual_seed": 0,
    "milestones": 0,
    "num_gpu": 0,
    "num_prefetch_queue": 1,
    "num_worker_per_gpu": 0,
    "periods": 1,
    "port": 1,
    "print_freq": 1,
    "save_checkpoint_freq": 1,
    "scale": 1,
    "T_max": 1,
    "total_iter": 1,
    "val_freq": 1,
    "warmup_iter": -1,
}
"""Keys whose values are whole numbers, or lists of such, wherever they stand; and the least that is allowed."""

SWITCHES = [
    "find_unused_parameters",
    "pbar",
    "persistent_workers",
    "pin_memory",
    "save_img",
    "skip_small",
    "strict_load_g",
    "use_hflip",
    "use_rot",
    "use_shuffle",
    "use_tb_logger",
]
_PAIRED = [
    "dataroot_gt",
    "dataroot_lq",
    "meta_info_file",
    "filename_tmpl",
    "io_backend",
    "gt_size",
    "use_hflip",
    "use_rot",
    "color",
    "mean",
    "std",
]
DATASETS = {
    "HRImageDataset": ["dataroot_gt", "gt_size", "skip_small", "use_hflip", "use_rot", "color", "cache_gb"],
    "PairedImageDataset": _PAIRED,
    "SingleImageDataset": ["dataroot_lq", "meta_info_file", "io_backend", "color", "mean", "std"],
}
