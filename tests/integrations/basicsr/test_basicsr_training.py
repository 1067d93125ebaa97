# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/{model,pipeline,stream,checkpoint,_run}.py: whole trainings and evaluations."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import lmb_quant as lmb
import lmb_quant.integrations.basicsr as host
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.checkpoint import last_complete, load_file, network_of, save_atomically
from lmb_quant.integrations.basicsr.metrics_log import read_validations

ALL_HOOKS = [
    {"type": "ClipBinaryWeights", "limit": 0.2},
    {"type": "ApproximatorSchedule", "start": 4.0, "end": 1.0, "shape": "exponential"},
    {"type": "FlipRatio", "every": 3},
    {"type": "GradientClipping", "max_norm": 0.5},
    {"type": "BestCheckpoint"},
]


def add_to_state(key: str) -> None:
    """As if another version had written the last state, which knows more of what must not change."""
    path = Path("experiments/tiny/training_states/12.state")
    state = load_file(path)
    state["lmb"]["made_by"][key] = "L1"
    save_atomically(state, path)


def same_networks(first: str, second: str) -> bool:
    a, b = (load_file(Path("experiments", name, "models", "net_g_latest.pth")) for name in (first, second))
    return all(torch.equal(a[key][name], b[key][name]) for key in ("params", "params_ema") for name in a[key])


def test_training_validates_saves_and_can_be_tested(run: Callable[..., int], options: dict[str, Any]) -> None:
    options["train"]["hooks"] = ALL_HOOKS
    assert run(options) == 0
    figures = read_validations("experiments/tiny")
    assert [figure["iter"] for figure in figures] == [4, 8, 12]
    models = {path.name for path in Path("experiments/tiny/models").iterdir()}
    tags = ("12", "latest", "best_held_out_psnr", "best_held_out_ssim")
    assert {f"net_g_{tag}.pth" for tag in tags} <= models
    log = next(Path("experiments/tiny").glob("train_*.log")).read_text()
    assert "iter 12/12" in log
    assert "it/s" in log
    assert "left" in log

    weights = "experiments/tiny/models/net_g_latest.pth"
    testing = {key: options[key] for key in ("model_type", "scale", "num_gpu", "network_g")}
    testing |= {"name": "evaluated", "datasets": {"test_1": options["datasets"]["val"]}}
    testing["val"] = {"metrics": options["val"]["metrics"], "save_img": True}
    testing["path"] = {"pretrain_network_g": weights, "param_key_g": "params_ema"}
    assert run(testing, test=True) == 0
    tested = read_validations("results/evaluated")[0]
    assert tested["psnr"] == figures[-1]["psnr"]
    assert len(list(Path("results/evaluated/visualization/held_out").iterdir())) == 2


def test_an_existing_experiment_is_renamed(run: Callable[..., int], options: dict[str, Any]) -> None:
    options["train"]["total_iter"] = 1
    assert run(options) == 0
    assert run(options) == 0
    assert len([path for path in Path("experiments").iterdir() if not path.name.startswith(".")]) == 2


def test_a_run_that_another_process_trains_is_left_alone(
    run: Callable[..., int],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lmb_quant.integrations.basicsr.pipeline._PATIENCE", 0)
    options["train"]["total_iter"] = 1
    assert run(options) == 0
    with FileLock("experiments/.tiny.lock"):
        for arguments in ((), ("--auto_resume",)):
            assert run(options, *arguments) == 2
            assert "name: 'tiny': another training writes into " in capsys.readouterr().err
        assert run({**options, "name": "other"}) == 0
    assert not list(Path("experiments").glob("tiny_archived*"))
    assert run(options) == 0


@pytest.mark.parametrize("test", [False, True], ids=["experiments", "results"])
def test_a_folder_that_cannot_be_made_is_named(
    run: Callable[..., int], options: dict[str, Any], capsys: pytest.CaptureFixture[str], test: bool
) -> None:
    folder = Path("results" if test else "experiments")
    folder.write_text("a file")
    if test:
        options = {key: options[key] for key in ("name", "model_type", "scale", "num_gpu", "network_g", "path")} | {
            "datasets": {"test_1": options["datasets"]["val"]}
        }
    assert run(options, test=test) == 2
    assert f"{folder.absolute()}: the folder cannot be made" in capsys.readouterr().err


def test_a_run_begun_twice_within_a_second_is_archived_twice(workplace: Path) -> None:
    from basicsr.utils.misc import mkdir_and_rename

    for i in range(3):
        mkdir_and_rename("runs/tiny")
        Path("runs/tiny/number").write_text(str(i))
    assert sorted(path.read_text() for path in Path("runs").glob("tiny_archived_*/number")) == ["0", "1"]


@pytest.mark.parametrize("stop", [4, 8], ids=["mid-epoch", "later"])
def test_resumed_run_equals_unbroken_one(run: Callable[..., int], options: dict[str, Any], stop: int) -> None:
    options["train"]["hooks"] = ALL_HOOKS
    assert run({**options, "name": "unbroken"}) == 0
    assert run({**options, "name": "broken"}) == 0
    for path in Path("experiments/broken").rglob("*.*"):
        if path.stem.removeprefix("net_g_") in {str(i) for i in (4, 8, 12) if i > stop} | {"latest"}:
            path.unlink()  # as if it had been killed after `stop`
    assert run({**options, "name": "broken"}, "--auto_resume") == 0
    assert read_validations("experiments/broken") == read_validations("experiments/unbroken")
    assert same_networks("broken", "unbroken")
    states = [load_file(Path("experiments", name, "training_states/12.state")) for name in ("broken", "unbroken")]
    assert states[0]["lmb"]["best"] == states[1]["lmb"]["best"]
    assert torch.equal(states[0]["lmb"]["rng"][0]["torch"], states[1]["lmb"]["rng"][0]["torch"])


def test_killed_at_random_moments_and_resumed(
    run: Callable[..., int], command: Callable[..., list[str]], environment: dict[str, str], options: dict[str, Any]
) -> None:
    options["train"]["total_iter"] = 100
    options["val"]["val_freq"] = 20
    options["logger"]["save_checkpoint_freq"] = 10
    options["datasets"]["train"]["num_worker_per_gpu"] = 1
    broken = {**options, "name": "broken"}
    moments = random.Random(int(time.time()))
    states = Path("experiments/broken/training_states")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command(broken), env=environment, **silent) as process:
        deadline = time.monotonic() + 120
        while not list(states.glob("*.state")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    assert not list(states.glob("100.state"))
    assert last_complete(states)[0] is not None
    assert run(broken, "--auto_resume") == 0
    assert run({**options, "name": "unbroken"}) == 0
    assert read_validations("experiments/broken") == read_validations("experiments/unbroken")
    assert same_networks("broken", "unbroken")


def test_only_complete_checkpoints_are_resumed_from(tmp_path: Path) -> None:
    models, states = tmp_path / "models", tmp_path / "training_states"
    for folder in (models, states):
        folder.mkdir()
    assert last_complete(states) == (None, [])
    for i in (5, 10, 15, 20):
        save_atomically({"params": {}}, models / f"net_g_{i}.pth")
        save_atomically({"iter": i}, states / f"{i}.state")
    save_atomically({"params": {}}, models / "net_g_25.pth")  # killed between the two files
    (states / "30.state.tmp99").write_bytes(b"killed while writing")
    network_of(states / "20.state").unlink()
    (states / "15.state").write_bytes((states / "15.state").read_bytes()[:50])
    path, skipped = last_complete(states)
    assert path == states / "10.state"
    assert len(skipped) == 2
    assert "20.state" in skipped[0]
    assert "15.state" in skipped[1]


def test_a_full_disk_leaves_the_last_good_checkpoint(
    run: Callable[..., int],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real failing write: from iteration 8 on, the system refuses files beyond 4,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    step = host.LMBModel.optimize_parameters

    def fill_disk(self: host.LMBModel, current_iter: int) -> None:
        step(self, current_iter)
        if current_iter == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))

    monkeypatch.setattr(host.LMBModel, "optimize_parameters", fill_disk)
    options["val"] = None
    try:
        assert run(options) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = capsys.readouterr().err
    assert "iteration 8: no checkpoint" in message
    assert "net_g_8.pth: cannot be written" in message
    assert "4.state" in message
    assert not list(Path("experiments/tiny").rglob(".lmb-quant-*.part"))
    assert last_complete(Path("experiments/tiny/training_states"))[0] is not None


def test_a_loss_that_is_not_finite_stops_training(
    run: Callable[..., int], options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options["train"]["optim_g"] = {"type": "SGD", "lr": 1e18}
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [100]}
    options["logger"]["save_checkpoint_freq"] = 1
    assert run(options) == 2
    message = capsys.readouterr().err
    assert "iteration " in message
    assert "not finite" in message
    for path in Path("experiments/tiny/models").iterdir():
        assert all(torch.isfinite(value).all() for value in load_file(path)["params"].values())


@pytest.mark.parametrize("model_type", ["LMBModel", "SRModel"])
def test_moving_average_is_right_with_batch_norm(
    run: Callable[..., int], options: dict[str, Any], model_type: str
) -> None:
    recipe = {
        "version": 1,
        "metadata": {"name": "with-norm"},
        "ignore": ["@first", "@last", "@upsample"],
        "scheme": {"activation": {"binarizer": "sign"}, "weight": {"binarizer": "sign"}, "unit": {"norm": "batch"}},
    }
    options["network_g"]["recipe"] = recipe
    options["model_type"] = model_type
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [100]}
    options["train"]["ema_decay"] = 0.5
    options["val"]["save_img"] = False
    assert run(options) == 0
    saved = load_file(Path("experiments/tiny/models/net_g_12.pth"))
    statistics = [name for name in saved["params"] if "running" in name or "num_batches" in name]
    assert statistics
    for name in statistics:
        assert torch.equal(saved["params"][name], saved["params_ema"][name])
    assert any(not torch.equal(saved["params"][name], saved["params_ema"][name]) for name in saved["params"])


def test_int8_training_averages_and_resumes_with_all_that_its_observers_hold(
    run: Callable[..., int], options: dict[str, Any]
) -> None:
    pytest.importorskip("lmb_quant.integrations.torchao.int8", exc_type=ImportError)
    options["network_g"] = {"type": "LMBInt8", "arch": {**options["network_g"], "recipe": None}}
    options["train"]["total_iter"] = 4
    options["val"] = None
    options["logger"]["save_checkpoint_freq"] = 2
    assert run(options) == 0
    unbroken = load_file(Path("experiments/tiny/models/net_g_latest.pth"))
    for path in Path("experiments/tiny").rglob("*4.*"):
        path.unlink()
    assert run(options, "--auto_resume") == 0
    saved = load_file(Path("experiments/tiny/models/net_g_latest.pth"))
    assert all(torch.equal(saved[key][name], value) for key in saved for name, value in unbroken[key].items())
    steps = [value for name, value in saved["params"].items() if name.endswith("eps")]
    assert steps
    assert min(steps) > 1e-4  # with the versions of its modules lost, loading sets float32's
    assert any(name.endswith("scale") and value.numel() == 8 for name, value in saved["params_ema"].items())


def test_stock_model_trains_resumes_and_tests(run: Callable[..., int], options: dict[str, Any]) -> None:
    options["model_type"] = "SRModel"
    options["train"]["scheduler"] = {"type": "CosineAnnealingRestartLR", "periods": [12]}
    options["network_g"] = {"type": "LMBVDSR", "num_feat": 8, "num_conv": 2, "upscale": 2, "recipe": "sign"}
    assert run(options) == 0
    for path in Path("experiments/tiny").rglob("*12*"):
        path.unlink()
    assert run(options, "--auto_resume") == 0
    assert Path("experiments/tiny/training_states/12.state").exists()


def test_stock_data_set_resumes_identically(run: Callable[..., int], options: dict[str, Any], workplace: Path) -> None:
    for path in (workplace / "images/train").iterdir():
        image = Image.open(path)
        image = image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))
        (workplace / "images/lq").mkdir(exist_ok=True)
        image.save(path)
        image.resize((image.width // 2, image.height // 2)).save(workplace / "images/lq" / path.name)
    options["datasets"]["train"] |= {
        "type": "PairedImageDataset",
        "dataroot_lq": "images/lq",
        "io_backend": {"type": "disk"},
        "use_hflip": True,
        "use_rot": True,
    }
    assert run({**options, "name": "unbroken"}) == 0
    assert run({**options, "name": "broken"}, "--force_yml", "train:total_iter=12") == 0
    for path in Path("experiments/broken").rglob("*12*"):
        path.unlink()
    assert run({**options, "name": "broken"}, "--auto_resume") == 0
    assert same_networks("broken", "unbroken")


def test_training_does_not_end_early(run: Callable[..., int], options: dict[str, Any]) -> None:
    """BasicSR counts 2 iterations an epoch (3 images, batches of 2) where the loader has 1, and stops half-way."""
    options["datasets"]["train"]["dataset_enlarge_ratio"] = 1
    assert run(options) == 0
    assert read_validations("experiments/tiny")[-1]["iter"] == 12


def test_weights_of_another_architecture_are_refused(
    run: Callable[..., int], fails: Callable[..., str], options: dict[str, Any]
) -> None:
    options["train"]["total_iter"] = 1
    assert run(options) == 0
    options["path"]["pretrain_network_g"] = "experiments/tiny/models/net_g_latest.pth"
    options["network_g"]["num_feat"] = 16
    message = fails(options)
    assert "pretrain_network_g: experiments/tiny/models/net_g_latest.pth: does not fit LMBSRResNet" in message
    assert "conv_first.weight has shape (8, 3, 3, 3), not (16, 3, 3, 3)" in message
    options["network_g"] = {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}
    assert "the file lacks" in fails(options)
    options["path"]["pretrain_network_g"] = "images/train/0.png"
    assert "is not a checkpoint" in fails(options)


def test_a_state_of_another_optimiser_is_refused(
    run: Callable[..., int], options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(options) == 0
    options["train"]["optim_g"] |= {"weight_decay": 0.1}
    assert run(options, "--auto_resume") == 2
    assert "12.state: does not fit" in capsys.readouterr().err


def test_a_float_checkpoint_starts_a_binary_training(run: Callable[..., int], options: dict[str, Any]) -> None:
    options["train"]["total_iter"] = 1
    options["network_g"] = {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}
    assert run({**options, "name": "float"}) == 0
    options["network_g"] = {"type": "LMBBinarized", "arch": options["network_g"]}
    options["path"]["pretrain_network_g"] = "experiments/float/models/net_g_latest.pth"
    assert run(options) == 0


def test_a_training_from_a_bare_state_dict_goes_on(run: Callable[..., int], options: dict[str, Any]) -> None:
    torch.save(lmb.archs.LMBSRResNet(num_feat=8, num_block=1, upscale=2).state_dict(), "bare.pth")
    options["path"] = {"pretrain_network_g": "bare.pth", "param_key_g": None}
    options["train"]["total_iter"] = 4
    assert run(options) == 0
    options["train"]["total_iter"] = 8
    assert run(options, "--auto_resume") == 0
    assert read_validations("experiments/tiny")[-1]["iter"] == 8


def test_validation_leaves_the_generators_alone(run: Callable[..., int], options: dict[str, Any]) -> None:
    assert run({**options, "name": "often"}, "--force_yml", "val:val_freq=1") == 0
    assert run({**options, "name": "seldom"}, "--force_yml", "val:val_freq=12") == 0
    assert same_networks("often", "seldom")


def test_tensorboard(run: Callable[..., int], options: dict[str, Any]) -> None:
    pytest.importorskip("tensorboard")
    options["logger"]["use_tb_logger"] = True
    options["train"]["total_iter"] = 2
    assert run(options) == 0
    assert list(Path("tb_logger/tiny").iterdir())


def test_registration_is_idempotent() -> None:
    host.install()
    host.install()
    assert any("model_ema" in fix for fix in host.applied_fixes())
    assert len(set(host.applied_fixes())) == len(host.applied_fixes())


def test_a_taken_name_is_an_error() -> None:
    from lmb_quant.integrations.basicsr.archs import register_once

    from basicsr.utils.registry import Registry

    registry: Any = Registry("trial")
    registry.register(type("HRImageDataset", (), {}))
    with pytest.raises(LMBError, match="already taken"):
        register_once(registry, host.HRImageDataset)


def test_generators_are_restored() -> None:
    from lmb_quant.integrations.basicsr.rng import get_rng_state, set_rng_state

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    state = get_rng_state()
    first = draw()
    set_rng_state(state)
    assert draw() == first


def test_a_longer_run_continues_a_shorter_one(run: Callable[..., int], options: dict[str, Any]) -> None:
    assert run(options) == 0
    options["train"]["total_iter"] = 16
    assert run(options, "--auto_resume") == 0
    assert [entry["iter"] for entry in read_validations("experiments/tiny")] == [4, 8, 12, 16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda opt: opt["network_g"].update(recipe="sign"), "was made with network_g"),
        (lambda opt: opt["train"]["optim_g"].update(type="AdamW"), "was made with train.optim_g.type 'Adam'"),
        (lambda opt: add_to_state("train.loss"), "was made with train.loss 'L1', the options have None"),
        (lambda opt: opt["train"].update(total_iter=8), "total_iter: 8 is less than the 12 iterations"),
        (
            lambda opt: (
                opt.update(name="other"),
                opt["path"].update(resume_state="experiments/tiny/training_states/12.state"),
            ),
            "belongs to another run",
        ),
    ],
    ids=["recipe", "optimizer", "another-version", "shorter", "another-run"],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_written(
    run: Callable[..., int],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    assert run(options) == 0
    network = Path("experiments/tiny/models/net_g_latest.pth")
    before = network.read_bytes()
    change(options)
    resume = [] if options["path"].get("resume_state") else ["--auto_resume"]
    assert run(options, *resume) == 2
    assert message in capsys.readouterr().err
    assert network.read_bytes() == before


def with_points(value: Any, *, key: str = "") -> Any:
    """All whole numbers of an option file as YAML reads them from 1e0."""
    if isinstance(value, dict):
        return {name: with_points(item, key=name) for name, item in value.items()}
    if isinstance(value, list):
        return [with_points(item, key=key) for item in value]
    return float(value) if type(value) is int else value


def test_whole_numbers_may_be_written_as_floats(run: Callable[..., int], options: dict[str, Any]) -> None:
    options["train"] |= {"total_iter": 4, "warmup_iter": 2}
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [2, 3]}
    options["datasets"]["train"] |= {"num_worker_per_gpu": 1, "prefetch_mode": "cpu", "num_prefetch_queue": 1}
    assert run({**options, "name": "whole"}) == 0
    assert run({**with_points(options), "name": "points"}) == 0
    a, b = (load_file(Path("experiments", name, "models/net_g_latest.pth")) for name in ("whole", "points"))
    assert all(torch.equal(a[key][name], b[key][name]) for key in ("params", "params_ema") for name in a[key])


def test_testing_measures_what_validation_measured(
    run: Callable[..., int],
    options: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    options["train"]["optim_g"]["lr"] = 1e-2  # so that the moving average lags
    assert run(options) == 0
    evaluation_options = {key: options[key] for key in ("scale", "num_gpu", "network_g")}
    evaluation_options |= {"datasets": {"test_1": options["datasets"]["val"]}}
    evaluation_options["val"] = {"metrics": options["val"]["metrics"]}
    weights, validated = Path("experiments/tiny/models/net_g_latest.pth"), read_validations("experiments/tiny")[-1]
    figures = {}
    for name, path in (("default", {}), ("plain", {"param_key_g": "params"}), ("stock", {})):
        capfd.readouterr()
        opt = evaluation_options | {"name": name, "path": {"pretrain_network_g": str(weights), **path}}
        assert run(opt | {"model_type": "SRModel" if name == "stock" else "LMBModel"}, test=True) == 0
        said = "".join(capfd.readouterr())
        assert ("params_ema (the moving average" in said) == (name == "default")
        figures[name] = read_validations(f"results/{name}")[-1]["psnr"] if name != "stock" else None
        assert "params_ema" in said if name != "plain" else "weights params (the plain ones)" in said
    assert figures["default"] == validated["psnr"] != figures["plain"]
    torch.save({"params": load_file(weights)["params"]}, weights)
    opt = evaluation_options | {
        "name": "without",
        "model_type": "LMBModel",
        "path": {"pretrain_network_g": str(weights)},
    }
    assert run(opt, test=True) == 0
    assert read_validations("results/without")[-1]["psnr"] == figures["plain"]
