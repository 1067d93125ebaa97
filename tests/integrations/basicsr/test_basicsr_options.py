# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/{option_*,networks,optim}.py: what is refused, and how."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.networks import built_network, float_network
from lmb_quant.integrations.basicsr.option_check import check_options
from lmb_quant.integrations.basicsr.option_read import find_option_file, override, read_options, shipped_options

SHIPPED = shipped_options()
TEACHER = {"type": "MSRResNet"}
GRAY = {"num_in_ch": 1, "num_out_ch": 1}
SMALL = {"num_feat": 8, "num_block": 1, "num_group": 1, "num_conv": 1, "squeeze_factor": 4}


def change(options: dict[str, Any], keys: str, value: Any) -> dict[str, Any]:
    node: Any = options
    *sections, last = keys.split(".")
    for section in sections:
        node = node[int(section)] if isinstance(node, list) else node[section]
    node[last] = value
    return options


MISTAKES = [
    ("scale", 2.5, "scale: 2.5 is not allowed. Allowed: a whole number, 1 or more"),
    ("manual_seed", -1, "manual_seed: -1 is not allowed. Allowed: a whole number, 0 or more"),
    ("manual_seed", "1", "manual_seed: '1' is not allowed"),
    ("num_gpu", 0.5, "num_gpu: 0.5 is not allowed"),
    ("datasets.train.gt_size", True, "datasets.train.gt_size: True is not allowed"),
    ("datasets.train.num_worker_per_gpu", "auto", "datasets.train.num_worker_per_gpu: 'auto' is not allowed"),
    ("train.warmup_iter", 1.5, "train.warmup_iter: 1.5 is not allowed. Allowed: a whole number, -1 or more"),
    ("train.total_iter", float("inf"), "train.total_iter: inf is not allowed"),
    ("train.scheduler", {"type": "MultiStepLR", "milestones": [4, 5.5]}, "scheduler.milestones[1]: 5.5 is not"),
    ("network_g.num_feat", 8.5, "network_g: "),
    ("totl_iter", 3, "unknown key 'totl_iter'"),
    ("model_type", "LMBModl", "model_type: unknown model 'LMBModl'. Did you mean 'LMBModel'?"),
    ("name", "a/b", "name: 'a/b' is not allowed"),
    ("name", None, "the key 'name' is missing"),
    ("scale", 4, "scale: 4 is not network_g's upscale, 2"),
    ("num_gpu", -1, "num_gpu: -1 is not allowed"),
    ("num_gpu", torch.cuda.device_count() + 1, "Allowed: that many at most, or auto; 0 is the CPU."),
    (
        "datasets.train.gt_size",
        8192,
        "gt_size: 8192 is not allowed. Allowed: a whole number, 1 or more, 4096",
    ),
    (
        "val.metrics.psnr.crop_border",
        24,
        "an image of datasets.val has 26 pixels a side. Allowed: 0 to 12.",
    ),
    ("datasets.train.gt_siz", 24, "datasets.train: unknown key 'gt_siz'. Did you mean 'gt_size'?"),
    ("datasets.train.type", "HRImages", "datasets.train: unknown data set 'HRImages'. Did you mean 'HRImageDataset'?"),
    ("datasets.train.dataroot_gt", "nowhere", "datasets.train: dataroot_gt: 'nowhere' is not a folder"),
    ("datasets.train.gt_size", 25, "datasets.train: gt_size: 25"),
    ("datasets.train.batch_size_per_gpu", 0, "batch_size_per_gpu: 0 is not allowed"),
    ("datasets.train.prefetch_mode", "cpu", "prefetch_mode: cpu needs num_worker_per_gpu"),
    ("datasets.train.prefetch_mode", "cuda", "prefetch_mode: cuda needs pin_memory: true and a GPU"),
    ("datasets.train.name", "held_out", "the name 'held_out' is given twice"),
    ("datasets.vall", {}, "datasets: unknown section 'vall'. Did you mean 'val'?"),
    ("network_g.type", "LMBSRResNett", "unknown architecture 'LMBSRResNett'. Did you mean 'LMBSRResNet'?"),
    ("network_g.num_feats", 8, "network_g: LMBSRResNet: unknown key 'num_feats'. Did you mean 'num_feat'?"),
    ("network_g.recipe", "lmbb", "network_g: unknown recipe 'lmbb'. Did you mean 'lmb'?"),
    ("network_g.tail", "lite", "unknown tail 'lite'"),
    ("network_g.arch", {"type": "MSRResNet"}, "unknown key 'arch'"),
    ("path.pretrain_netwrk_g", None, "path: unknown key 'pretrain_netwrk_g'. Did you mean 'pretrain_network_g'?"),
    ("path.pretrain_network_g", "none.pth", "path.pretrain_network_g: none.pth: there is no such file"),
    ("train.totl_iter", 3, "train: unknown key 'totl_iter'. Did you mean 'total_iter'?"),
    ("train.total_iter", 0, "train.total_iter: 0 is not allowed"),
    ("train.total_iter", "many", "train.total_iter: 'many' is not allowed"),
    ("train.ema_decay", 1.5, "train.ema_decay: 1.5 is not allowed"),
    ("train.optim_g.lrr", 1, "train.optim_g: Adam: unknown key 'lrr'. Did you mean 'lr'?"),
    ("train.optim_g.lr", -1.0, "train.optim_g.lr: -1.0 is not allowed. Allowed: a number, 0 or more"),
    ("train.optim_g.lr", float("nan"), "train.optim_g.lr: nan is not allowed. Allowed: a number, 0 or more"),
    ("train.optim_g.type", "Adm", "unknown optimizer 'Adm'. Did you mean 'Adam'?"),
    ("train.scheduler.type", "CosineAnealing", "unknown scheduler 'CosineAnealing'"),
    ("train.scheduler.T_max", 5, "ends before train.total_iter, 12"),
    ("train.pixel_opt.type", "L1Los", "unknown loss 'L1Los'. Did you mean 'L1Loss'?"),
    ("train.pixel_opt.weight", 1, "train.pixel_opt: L1Loss: unknown key 'weight'"),
    ("train.pixel_opt", None, "there is no loss"),
    ("train.pixel_opt.reduction", "none", "train.pixel_opt: with these arguments it gives no single finite number"),
    ("train.pixel_opt.loss_weight", "much", "train.pixel_opt: it fails with these arguments: "),
    (
        "train.hooks",
        [{"type": "ApproximatorSchedule", "start": 4.0, "end": 1.0, "until": 13}],
        "until: 13 is not allowed. Allowed: an iteration up to total_iter, 12",
    ),
    ("train.hooks", [{"type": "FlipRato"}], "train.hooks[0]: unknown hook 'FlipRato'. Did you mean 'FlipRatio'?"),
    ("train.hooks", [{"type": "FlipRatio", "evry": 1}], "unknown key 'evry'. Did you mean 'every'?"),
    ("train.hooks", [{"type": "ClipBinaryWeights", "limit": 0}], "train.hooks[0]: ClipBinaryWeights: limit: 0"),
    ("train.hooks", {"type": "FlipRatio"}, "Allowed: a list"),
    ("train.hooks", [{"type": "BestCheckpoint", "metrics": ["psnrr"]}], "unknown metric 'psnrr'"),
    ("val.val_frq", 3, "val: unknown key 'val_frq'. Did you mean 'val_freq'?"),
    ("val.metrics.psnr.type", "psnr", "val.metrics.psnr: unknown metric 'psnr'"),
    ("val.metrics.psnr.crop_brder", 4, "unknown key 'crop_brder'. Did you mean 'crop_border'?"),
    ("val.metrics.psnr.crop_border", -1, "val.metrics.psnr.crop_border: -1 is not allowed"),
    ("val.metrics.psnr.input_order", "HCW", "val.metrics.psnr: it fails with these arguments: "),
    ("val.save_img", "no", "val.save_img: 'no' is not allowed. Allowed: true, false"),
    ("datasets.train.use_shuffle", False, "datasets.train.use_shuffle: False is not allowed. Allowed: true"),
    ("datasets.train.use_hflip", 1, "datasets.train.use_hflip: 1 is not allowed. Allowed: true, false"),
    ("logger.print_frq", 3, "logger: unknown key 'print_frq'. Did you mean 'print_freq'?"),
]


@pytest.mark.parametrize(
    ("keys", "value", "message"), MISTAKES, ids=[f"{key}={value}"[:60] for key, value, _ in MISTAKES]
)
def test_mistakes_are_named_before_anything_is_created(
    fails: Callable[..., str], options: dict[str, Any], keys: str, value: Any, message: str
) -> None:
    found = fails(change(options, keys, value))
    assert message in found
    assert "options.yml" in found


def test_whole_numbers_may_be_written_as_floats(run: Callable[..., int], options: dict[str, Any]) -> None:
    """5e3 is a float in YAML; a loader with 2.0 processes or a seed of 3.0 would end in a traceback."""
    whole = {
        "scale": 2, "num_gpu": 0, "manual_seed": 3, "network_g.num_feat": 8, "val.metrics.psnr.crop_border": 2,
        "train.total_iter": 2, "train.warmup_iter": -1,
        "datasets.train.gt_size": 24, "datasets.train.batch_size_per_gpu": 2, "datasets.train.num_worker_per_gpu": 0,
        "datasets.train.dataset_enlarge_ratio": 3, "val.val_freq": 2, "logger.print_freq": 1,
        "logger.save_checkpoint_freq": 2,
    }  # fmt: skip
    for keys, value in whole.items():
        change(options, keys, float(value))
    assert run(options) == 0
    used = read_options(next(Path("experiments/tiny").glob("*.yml")))
    for keys, value in whole.items():
        found: Any = used
        for key in keys.split("."):
            found = found[key]
        assert found == value
        assert isinstance(found, int), keys


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("logger.print_freq", 1.5, "logger.print_freq: 1.5 is not allowed. Allowed: a whole number, 1 or more"),
        ("manual_seed", -1.0, "manual_seed: -1.0 is not allowed. Allowed: a whole number, 0 or more, 4294967295"),
        ("num_gpu", "all", "num_gpu: 'all' is not allowed. Allowed: a whole number, 0 or more, auto"),
        ("val.metrics.psnr.crop_border", 2.5, "crop_border: 2.5 is not allowed. Allowed: a whole number"),
        ("network_g.num_block", 1.5, "network_g: num_block: 1.5 is not allowed"),
        ("train.scheduler", {"type": "MultiStepLR", "milestones": [4, 5.5]}, "scheduler.milestones[1]: 5.5 is not"),
        ("train", 3, "train: 3 is not allowed. Allowed: a mapping"),
        ("datasets.val", [], "datasets.val: [] is not allowed. Allowed: a mapping"),
        ("train.optim_g", {"lr": 1.0}, "train.optim_g: the key 'type' is missing"),
        ("datasets.train.gt_size", None, "datasets.train: the key 'gt_size' is missing"),
        ("datasets.train.cache_gb", "x", "datasets.train.cache_gb: 'x' is not allowed. Allowed: a number, 0 or more"),
        ("datasets.val.dataroot_gt", ["images/val", 1], "Allowed: a folder, or a list of folders"),
        ("datasets.train.prefetch_mode", "gpu", "datasets.train.prefetch_mode: 'gpu' is not allowed. "),
        ("val.metrics.psnr.test_y_channel", "no", "psnr.test_y_channel: 'no' is not allowed. Allowed: true, false"),
        ("train.hooks", [{"type": "BestCheckpoint", "metrics": "psnr"}], "metrics: 'psnr' is not allowed."),
        ("train.hooks", [{"type": "FlipRatio", "every": 1.5}], "every: 1.5 is not allowed. Allowed: iterations"),
        ("train.hooks", [{"type": "StepTimes", "every": "x"}], "every: 'x' is not allowed. Allowed: a number, 0 or"),
        ("train.hooks", [{"type": "GradientClipping", "max_norm": True}], "max_norm: True is not allowed. Allowed: a"),
        ("train.hooks", [{"type": "Compile", "channels_last": 1}], "channels_last: 1 is not allowed. Allowed: true"),
        ("train.hooks", [{"type": "Distillation", "teacher": TEACHER, "weight": "x"}], "weight: 'x' is not allowed."),
        ("train.hooks", [{"type": "Distillation", "teacher": TEACHER, "features": "x"}], "features: 'x' is not"),
        ("train.hooks", [{"type": "Distillation", "teacher": 3}], "teacher: 3 is not allowed. Allowed: a mapping"),
        ("logger.wandb", {"project": "x"}, "logger.wandb: BasicSR sends TensorBoard's log"),
        ("path.pretrain_network_g", 1, "path.pretrain_network_g: 1 is not allowed. Allowed: text"),
    ],
)  # fmt: skip
def test_values_of_a_wrong_kind_are_named(
    fails: Callable[..., str], options: dict[str, Any], keys: str, value: Any, message: str
) -> None:
    assert message in fails(change(options, keys, value))


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each key of nested options."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*at, key)
        yield from places(value, (*at, key))


ODD: list[Any] = [None, 3, -1, 1.5, "x", [], {}, True, float("nan"), float("inf"), [None], {"a": 1}, {1: 2}, "", ["x"]]


def test_any_value_at_any_place_is_allowed_or_named(options: dict[str, Any]) -> None:
    options["path"]["strict_load_g"] = True
    options["logger"]["wandb"] = {"project": None}
    options["dist_params"] = {"backend": "gloo", "port": 1}
    options["train"]["hooks"] = [
        {"type": "FlipRatio", "every": 2},
        {"type": "BestCheckpoint", "metrics": ["psnr"]},
        {"type": "ApproximatorSchedule", "start": 4.0, "end": 1.0, "until": 3},
    ]
    refused = []
    for i, (*sections, last) in enumerate(places(options)):
        for odd in ODD[i % 4 :: 4]:
            changed = copy.deepcopy(options)
            node: Any = changed
            for key in sections:
                node = node[key]
            node[last] = copy.deepcopy(odd)
            try:
                check_options(changed, "x.yml", is_train=True)
            except LMBError as error:  # and no other
                refused.append(str(error))
    assert len(refused) > 200
    assert all(message.startswith("x.yml: ") for message in refused)


def test_a_key_without_a_value_is_not_given(run: Callable[..., int], options: dict[str, Any]) -> None:
    for keys in ("train.ema_decay", "datasets.train.dataset_enlarge_ratio", "manual_seed", "val", "train.hooks"):
        change(options, keys, None)
    options["train"]["total_iter"] = 2
    assert run(options) == 0


def test_mistakes_in_an_evaluation_file(fails: Callable[..., str], evaluation_options: dict[str, Any]) -> None:
    found = fails(change(copy.deepcopy(evaluation_options), "path.strict_load", True), test=True)
    assert "path: unknown key 'strict_load'. Did you mean 'strict_load_g'?" in found
    found = fails(change(evaluation_options, "datasets.test_1.dataroot_gt", "images"), test=True)
    assert "datasets.test_1: dataroot_gt: 'images' holds no image" in found
    evaluation_options["datasets"] = {"tset_1": evaluation_options["datasets"]["test_1"]}
    assert "datasets: unknown section 'tset_1'. Did you mean 'test_1'?" in fails(evaluation_options, test=True)


@pytest.mark.parametrize("name", ["corrupt", "small"])
def test_bad_images_are_named_before_anything_is_created(
    fails: Callable[..., str], options: dict[str, Any], name: str
) -> None:
    path = Path("images/train/2.png")
    if name == "corrupt":
        path.write_bytes(path.read_bytes()[:100])
    else:
        options["datasets"]["train"]["gt_size"] = 32
    assert "images/train/2.png" in fails(options)


@pytest.mark.parametrize("wrapper", ["LMBBinarized", "LMBInt8"])
def test_an_arch_inside_another_entry_is_checked(
    fails: Callable[..., str], options: dict[str, Any], wrapper: str
) -> None:
    arch = {"type": "MSRResNet", "num_feat": 8, "num_blok": 1, "upscale": 2}
    options["network_g"] = {"type": wrapper, "arch": arch}
    assert "network_g.arch: MSRResNet: unknown key 'num_blok'. Did you mean 'num_block'?" in fails(options)
    arch["num_block"] = arch.pop("num_blok")
    options["scale"] = 3
    assert "scale: 3 is not network_g's upscale, 2" in fails(options)


@pytest.fixture
def pairs(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a training by BasicSR's data set of pairs."""
    images = [Image.open(path) for path in sorted(Path("images/train").iterdir())]
    for folder, upscale in (("gt", 2), ("lq", 1)):
        Path("images", folder).mkdir()
        for i, image in enumerate(images):
            size = (image.width // 2 * upscale, image.height // 2 * upscale)
            image.resize(size).save(Path("images", folder, f"{i}.png"))
    roots = {"dataroot_gt": "images/gt", "dataroot_lq": "images/lq", "io_backend": {"type": "disk"}}
    options["datasets"]["train"] |= {"type": "PairedImageDataset", **roots}
    return options


@pytest.mark.parametrize("key", ["gt_size", "io_backend", "dataroot_lq", "dataroot_gt"])
def test_keys_that_pairs_need(fails: Callable[..., str], pairs: dict[str, Any], key: str) -> None:
    pairs["datasets"]["train"].pop(key)
    assert f"datasets.train: the key {key!r} is missing" in fails(pairs)


def test_pairs_that_do_not_fit(fails: Callable[..., str], pairs: dict[str, Any]) -> None:
    assert "datasets.train: it fails with these arguments: ValueError: ('Scale mismatches" in fails(
        change(copy.deepcopy(pairs), "datasets.train.dataroot_lq", "images/gt")
    )
    Path("images/lq/2.png").unlink()
    assert "different number of images: 2, 3" in fails(pairs)


def test_pairs_are_turned_where_nothing_is_said(run: Callable[..., int], pairs: dict[str, Any]) -> None:
    pairs["train"]["total_iter"] = 1
    assert run(pairs) == 0


@pytest.mark.parametrize(
    ("network", "dataset", "message"),
    [
        ({**GRAY, "upscale": 2}, {}, "datasets.train, (1, 3, 12, 12): the network fails: RuntimeError"),
        ({**GRAY, "upscale": 2}, {"color": "y"}, "datasets.val, (1, 3, 48, 48): the network fails"),
        (
            {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 1, "scale": 2},
            {},
            "the network gives (1, 1, 24, 24). Allowed: (1, 3, 24, 24)",
        ),
    ],
)
def test_networks_and_images_of_other_channels(
    fails: Callable[..., str], options: dict[str, Any], network: dict[str, Any], dataset: dict[str, Any], message: str
) -> None:
    options["network_g"] = {"type": "MSRResNet", "num_feat": 8, "num_block": 1, **network}
    options["datasets"]["train"] |= dataset
    assert message in fails(options)


def test_stock_model_has_no_hooks_and_one_optimiser(fails: Callable[..., str], options: dict[str, Any]) -> None:
    options["model_type"] = "SRModel"
    assert "Allowed: CosineAnnealingRestartLR" in fails(options)
    options["train"]["hooks"] = [{"type": "FlipRatio"}]
    assert "has no hooks" in fails(options)


def test_overrides_are_yaml(options: dict[str, Any]) -> None:
    options["train"]["hooks"] = [{"type": "ClipBinaryWeights", "limit": 1.0}]
    entries = ["train:optim_g:lr=1e-4", "datasets:train:dataroot_gt=[a, b=c]", "path:pretrain_network_g=~", "scale=3"]
    override(
        options, [*entries, "train:hooks:0:limit=2.5", "logger:use_tb_logger=true", "train:scheduler:eta_min=1e-7"]
    )
    assert options["train"]["optim_g"]["lr"] == 1e-4
    assert options["datasets"]["train"]["dataroot_gt"] == ["a", "b=c"]
    assert options["path"]["pretrain_network_g"] is None
    assert options["scale"] == 3
    assert options["train"]["hooks"][0]["limit"] == 2.5
    assert options["logger"]["use_tb_logger"] is True
    assert options["train"]["scheduler"]["eta_min"] == 1e-7
    with pytest.raises(LMBError, match=r"unknown section 'trian'. Did you mean 'train'"):
        override(options, ["trian:total_iter=3"])
    with pytest.raises(LMBError, match="Allowed: KEY:KEY=VALUE"):
        override(options, ["train:total_iter"])


def test_overrides_reach_the_training(run: Callable[..., int], options: dict[str, Any]) -> None:
    folders = "datasets:train:dataroot_gt=[images/train, images/val]"
    assert run(options, "--force_yml", "train:total_iter=2", folders, "name=2024-13-01") == 0
    used = next(Path("experiments/2024-13-01").glob("*.yml")).read_text()
    assert "total_iter: 2" in used
    assert "Number of train images: 5" in next(Path("experiments/2024-13-01").glob("*.log")).read_text()


def test_an_override_of_several_lines_leaves_the_file_whole(run: Callable[..., int], options: dict[str, Any]) -> None:
    assert run(options, "--force_yml", "train:total_iter=1", "train:hooks=\n- {type: 'FlipRatio'}\n") == 0
    used = next(Path("experiments/tiny").glob("*.yml")).read_text()
    assert yaml.safe_load(used)["train"]["hooks"] == [{"type": "FlipRatio"}]
    (command,) = (line.partition(" as used by: ")[2] for line in used.splitlines() if " as used by: " in line)
    words = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {command}"], text=True).split("\0")
    assert words[-2] == "train:hooks=\n- {type: 'FlipRatio'}\n"


def test_exponents_and_double_keys(workplace: Path) -> None:
    path = workplace / "x.yml"
    path.write_text("a: 1e-4\nb: !!float 5e3\nc: 1e3\nd: e3\n")
    assert read_options(path) == {"a": 1e-4, "b": 5000.0, "c": 1000.0, "d": "e3"}
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(LMBError, match="'a' is given twice"):
        read_options(path)
    path.write_text("[1, 2]")
    with pytest.raises(LMBError, match="is a mapping, not list"):
        read_options(path)


def test_shipped_files_are_found_by_name(workplace: Path) -> None:
    assert find_option_file("train_LMBSRResNet_x4.yml").is_file()
    with pytest.raises(LMBError, match=r"Did you mean 'train_LMBSRResNet_x4.yml'"):
        find_option_file("train_LMBSRResnet_x4.yml")
    with pytest.raises(LMBError, match=r"there is no file '~nosuch/x.yml'"):
        find_option_file("~nosuch/x.yml")
    with pytest.raises(LMBError, match=r"x{300}: it cannot be reached: File name too long"):
        find_option_file(300 * "x")
    (workplace / "train_LMBSRResNet_x4.yml").write_text("name: mine\n")
    assert find_option_file("train_LMBSRResNet_x4.yml").read_text() == "name: mine\n"


def test_there_is_a_test_file_for_every_training_file() -> None:
    stems = {kind: {n.partition("_")[2] for n in SHIPPED if n.startswith(kind)} for kind in ("train", "test")}
    assert stems["train"] == stems["test"]
    assert len(stems["train"]) == 18


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_are_valid(name: str) -> None:
    """With networks made small, and folders that exist: every check, so every part is built."""
    opt = read_options(SHIPPED[name])
    is_train = name.startswith("train_")
    assert opt["name"] == name.removesuffix(".yml")
    assert f"_x{opt['scale']}.yml" in name
    for network in (opt["network_g"], opt["network_g"].get("arch", {})):
        network.update({key: value for key, value in SMALL.items() if key in network})
    for phase, dataset in opt["datasets"].items():
        dataset["dataroot_gt"] = "images/train" if phase == "train" else "images/val"
    if is_train:
        opt["datasets"]["train"]["gt_size"] = 24
    else:
        trained = read_options(SHIPPED[name.replace("test_", "train_")])
        assert opt["path"]["pretrain_network_g"] == f"experiments/{trained['name']}/models/net_g_latest.pth"
        opt["path"]["pretrain_network_g"] = None
    assert all(metric["crop_border"] == opt["scale"] for metric in opt["val"]["metrics"].values())
    check_options(opt, name, is_train=is_train)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("train_") and "RCAN" not in name])
def test_train_and_test_file_have_one_network(name: str) -> None:
    assert (
        read_options(SHIPPED[name])["network_g"] == read_options(SHIPPED[name.replace("train_", "test_")])["network_g"]
    )


def test_networks_for_the_command_line(options: dict[str, Any], workplace: Path) -> None:
    net, recipe = float_network("train_LMBSRResNet_x4.yml")
    assert recipe == "lmb"
    assert not any(type(module).__name__ == "BinaryConv2d" for module in net.modules())
    net, channels = built_network("train_LMBVDSR_x2.yml")
    assert channels == 3
    assert any(type(module).__name__ == "BinaryConv2d" for module in net.modules())
    path = workplace / "x.yml"
    path.write_text("network_g: {type: MSRResNet, num_feat: 8, num_block: 1}\n")
    assert float_network(str(path))[1] is None
    path.write_text("scale: 2\n")
    with pytest.raises(LMBError, match="the section 'network_g' is missing"):
        built_network(str(path))
    path.write_text("network_g: {type: LMBBinarized, arch: {type: MSRResNet, num_feat: -64}}\n")
    with pytest.raises(LMBError, match="network_g: LMBBinarized cannot be built with these arguments: RuntimeError"):
        float_network(str(path))
