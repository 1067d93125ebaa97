# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/hooks/ and optim.py: what each hook does in a real training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import lmb_quant.integrations.basicsr as host
from lmb_quant.integrations.basicsr.checkpoint import load_file
from lmb_quant.integrations.basicsr.hooks import HOOKS, make_hooks
from lmb_quant.integrations.basicsr.hooks.approximator_schedule import ApproximatorSchedule
from lmb_quant.integrations.basicsr.hooks.compile import Compile
from lmb_quant.integrations.basicsr.networks import build
from lmb_quant.integrations.basicsr.optim import make_optimizer, make_scheduler, parameter_groups
from lmb_quant.modules import binary_convs

Watch = Callable[[host.LMBModel, int], None]


@pytest.fixture
def train(
    run: Callable[..., int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Trains with hooks and returns the options; ``watch`` is called after every iteration."""

    def train(hooks: list[dict[str, Any]], watch: Watch = lambda model, it: None, **changes: Any) -> dict[str, Any]:
        step = host.LMBModel.optimize_parameters

        def watched(self: host.LMBModel, current_iter: int) -> None:
            step(self, current_iter)
            watch(self, current_iter)

        monkeypatch.setattr(host.LMBModel, "optimize_parameters", watched)
        options["train"]["hooks"] = hooks
        options.update(changes)
        assert run(options) == 0
        return options

    return train


def test_clip_binary_weights(train: Callable[..., Any]) -> None:
    largest: list[float] = []

    def watch(model: host.LMBModel, it: int) -> None:
        largest.append(max(conv.weight.abs().max().item() for conv in binary_convs(model.bare_net)))
        assert model.bare_net.conv_first.weight.abs().max() > 0.01

    train([{"type": "ClipBinaryWeights", "limit": 0.01}], watch)
    assert max(largest) == pytest.approx(0.01)


def test_approximator_schedule(train: Callable[..., Any]) -> None:
    seen: list[float] = []

    def watch(model: host.LMBModel, it: int) -> None:
        seen.append(next(binary_convs(model.bare_net)).binarize_weight.kappa.item())

    train([{"type": "ApproximatorSchedule", "start": 4.0, "end": 1.0, "until": 10}], watch)
    assert seen == pytest.approx([4 - i / 3 for i in range(10)] + [1.0, 1.0])
    exponential = ApproximatorSchedule(start=4.0, end=1.0, shape="exponential")
    assert [exponential.kappa(it, 3) for it in (1, 2, 3)] == pytest.approx([4.0, 2.0, 1.0])
    assert ApproximatorSchedule(start=4.0, end=1.0).kappa(1, 1) == 1.0


def test_training_progress_reaches_the_binarizers(train: Callable[..., Any]) -> None:
    seen: list[float] = []

    def watch(model: host.LMBModel, it: int) -> None:
        seen.append(next(binary_convs(model.bare_net)).binarize_weight.progress.item())

    train([], watch)
    assert seen == pytest.approx([i / len(seen) for i in range(len(seen))])


@pytest.mark.parametrize("kind", ["ApproximatorSchedule", "FlipRatio"])
def test_hooks_for_binary_layers_refuse_a_float_network(
    fails: Callable[..., str], options: dict[str, Any], kind: str
) -> None:
    options["network_g"]["recipe"] = None
    choice = {"type": kind, **({"start": 4.0, "end": 1.0} if kind == "ApproximatorSchedule" else {})}
    options["train"]["hooks"] = [choice]
    assert f"train.hooks: {kind}: no" in fails(options).replace("the network has no", "no")


def test_flip_ratio_refuses_weights_without_signs(fails: Callable[..., str], options: dict[str, Any]) -> None:
    options["network_g"]["recipe"] = "adabin"
    options["train"]["hooks"] = [{"type": "FlipRatio"}]
    assert "weight binarizer 'adabin' is not allowed: its values are not -1 and +1" in fails(options)


@pytest.mark.parametrize("recipe", ["lmb", "irnet"])
def test_flip_ratio_counts_changed_signs(train: Callable[..., Any], options: dict[str, Any], recipe: str) -> None:
    options["network_g"]["recipe"] = recipe
    previous: list[torch.Tensor] = []
    logged: dict[int, tuple[float, float]] = {}

    def watch(model: host.LMBModel, it: int) -> None:
        if recipe == "irnet":  # moves every weight, and no binary one
            with torch.no_grad():
                for conv in binary_convs(model.bare_net):
                    conv.weight += 0.3
        weights = [conv.weight - (recipe == "irnet") * conv.weight.mean((1, 2, 3), keepdim=True)
                   for conv in binary_convs(model.bare_net)]  # fmt: skip
        signs = torch.cat([(weight >= 0).flatten() for weight in weights])
        if it % 4 == 0:
            if previous:
                expected = (signs != previous[-1]).float().mean().item()
                logged[it] = (model.log_dict["flip_ratio"], expected)
            previous.append(signs)
        else:
            assert "flip_ratio" not in model.log_dict

    train([{"type": "FlipRatio", "every": 4}], watch)
    assert set(logged) == {8, 12}
    assert recipe == "irnet" or any(found > 0 for found, _ in logged.values())
    for found, expected in logged.values():
        assert found == pytest.approx(expected, abs=1e-3 if recipe == "irnet" else None)


def test_gradient_clipping(train: Callable[..., Any]) -> None:
    norms: list[float] = []

    def watch(model: host.LMBModel, it: int) -> None:
        norms.append(
            torch.stack([p.grad.norm() for p in model.bare_net.parameters() if p.grad is not None]).norm().item()
        )

    train([{"type": "GradientClipping", "max_norm": 1e-3}], watch)
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_distillation_pulls_towards_the_teacher(
    run: Callable[..., int], train: Callable[..., Any], options: dict[str, Any]
) -> None:
    teacher = {**options["network_g"], "recipe": None}
    assert run({**options, "name": "teacher", "network_g": teacher}) == 0
    losses: list[dict[str, float]] = []
    hook = {"type": "Distillation", "teacher": teacher, "weight": 0.5, "features": ["body"], "feature_weight": 0.1}
    path = {"pretrain_network_teacher": "experiments/teacher/models/net_g_latest.pth"}
    train([hook], lambda model, it: losses.append(dict(model.log_dict)), path=path)
    assert losses[0].keys() == {"l_pix", "l_distill", "l_feature"}
    assert losses[0]["l_distill"] > 0
    assert losses[0]["l_feature"] > 0


def test_distillation_refuses_what_does_not_fit(fails: Callable[..., str], options: dict[str, Any]) -> None:
    teacher = {**options["network_g"], "recipe": None}
    options["train"]["hooks"] = [{"type": "Distillation", "teacher": teacher}]
    assert "pretrain_network_teacher' is missing" in fails(options)
    options["path"]["pretrain_network_teacher"] = "none.pth"
    assert "none.pth: there is no such file" in fails(options)
    options["train"]["hooks"] = [{"type": "Distillation", "teacher": {**teacher, "num_feats": 8}}]
    assert "unknown key 'num_feats'. Did you mean 'num_feat'?" in fails(options)


def test_distillation_refuses_networks_that_cannot_be_compared(
    fails: Callable[..., str], options: dict[str, Any]
) -> None:
    options["path"]["pretrain_network_teacher"] = "teacher.pth"

    def refused(teacher: dict[str, Any], *features: str) -> str:
        torch.save({"params": build(dict(teacher)).state_dict()}, "teacher.pth")
        options["train"]["hooks"] = [{"type": "Distillation", "teacher": teacher, "features": list(features)}]
        return fails(options)

    teacher = {**options["network_g"], "recipe": None}
    assert "features: unknown module of the teacher 'bodi'. Did you mean 'body'?" in refused(teacher, "bodi")
    assert "'body' has shapes (1, 8, 12, 12) and (1, 6, 12, 12)" in refused({**teacher, "num_feat": 6}, "body")
    assert "output (1, 3, 36, 36) has not the student's shape (1, 3, 24, 24)" in refused({**teacher, "upscale": 3})


def test_mixed_precision_keeps_the_rest_in_float32(train: Callable[..., Any]) -> None:
    kinds: set[torch.dtype] = set()

    def watch(model: host.LMBModel, it: int) -> None:
        kinds.update(p.grad.dtype for p in model.bare_net.parameters() if p.grad is not None)
        kinds.add(model.output.dtype)

    train([{"type": "MixedPrecision"}], watch)
    assert kinds == {torch.float32}


@pytest.mark.parametrize(("precision", "ends"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_covers_float_layers_and_binary_ones(
    run: Callable[..., int],
    options: dict[str, Any],
    precision: str,
    ends: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[torch.dtype, bool]] = []
    original = host.LMBModel.optimize_parameters

    def watched(model: host.LMBModel, it: int) -> None:
        net = model.bare_net
        handle = net.tail[0].register_forward_hook(
            lambda *args: seen.append((args[2].dtype, net.body[0].conv1.bf16_gradients))
        )
        original(model, it)
        handle.remove()

    monkeypatch.setattr(host.LMBModel, "optimize_parameters", watched)
    options["train"] |= {"precision": precision, "total_iter": 2}
    assert run({**options, "name": precision}) == 0
    assert seen == [(ends, precision == "bf16")] * 2
    (log,) = Path("experiments", precision).glob("train*.log")
    said = f"Precision {precision}: float layers {precision}, gradients of binary ones {precision}: 2 by engine."
    assert said in log.read_text()


def test_precision_is_one_of_three(fails: Callable[..., str], options: dict[str, Any]) -> None:
    options["train"]["precision"] = "half"
    assert "train.precision: 'half' is not allowed. Input should be 'auto', 'bf16' or 'fp32'" in fails(options)


def test_channels_last(train: Callable[..., Any]) -> None:
    def watch(model: host.LMBModel, it: int) -> None:
        assert model.lq.is_contiguous(memory_format=torch.channels_last)
        assert model.bare_net.conv_first.weight.is_contiguous(memory_format=torch.channels_last)

    train([{"type": "Compile", "mode": "off"}], watch)


def test_validation_runs_uncompiled() -> None:
    hook, model = Compile(), SimpleNamespace(bare_net=nn.Linear(2, 2))
    hook.before_train(model)
    compiled = model.bare_net._compiled_call_impl
    assert compiled is not None
    hook.before_val(model, 1)
    assert model.bare_net._compiled_call_impl is None
    model.lq = torch.zeros(1, 2, 3, 3)
    hook.before_iter(model, 2)
    assert model.bare_net._compiled_call_impl is compiled


def test_weights_that_are_not_finite_are_no_best_network(
    run: Callable[..., int],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = host.LMBModel.optimize_parameters

    def spoilt(model: host.LMBModel, it: int) -> None:
        step(model, it)
        if it == options["val"]["val_freq"]:
            with torch.no_grad():
                model.bare_net.conv_first.bias[0] = float("nan")

    monkeypatch.setattr(host.LMBModel, "optimize_parameters", spoilt)
    options["train"]["hooks"] = [{"type": "BestCheckpoint"}]
    assert run(options) != 0
    assert "conv_first.bias is not finite and is not saved" in capsys.readouterr().err
    assert not list(Path("experiments/tiny/models").glob("*best*"))


def test_best_checkpoint_holds_the_best_network(train: Callable[..., Any]) -> None:
    from lmb_quant.integrations.basicsr.metrics_log import read_validations

    train([{"type": "BestCheckpoint", "metrics": ["psnr"]}])
    figures = read_validations("experiments/tiny")
    best = max(figures, key=lambda figure: (figure["psnr"], figure["iter"]))["iter"]
    models = Path("experiments/tiny/models")
    saved, kept = load_file(models / "net_g_best_held_out_psnr.pth"), load_file(models / f"net_g_{best}.pth")
    assert all(torch.equal(saved["params_ema"][name], kept["params_ema"][name]) for name in kept["params_ema"])


def test_every_hook_is_in_a_file_of_its_name() -> None:
    for name, hook in HOOKS.items():
        assert hook.__module__.rpartition(".")[2].replace("_", "") == name.lower()
    assert [type(hook).__name__ for hook in make_hooks(None)] == ["NanGuard", "ProgressBar", "TrainingProgress"]


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "NAdam", "RAdam", "SGD"])
def test_optimisers_leave_scales_and_shifts_without_decay(kind: str) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.PReLU(2))
    optimizer = make_optimizer(kind, parameter_groups(net, 0.1), lr=0.1)
    decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [decays[parameter] for parameter in net.parameters()] == [0.1, 0.0, 0.0]


def test_cosine_goes_from_the_rate_to_eta_min() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler("CosineAnnealingLR", optimizer, 10, eta_min=0.1)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(10):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    expected = [0.1 + 0.45 * (1 + torch.cos(torch.tensor(torch.pi * i / 10)).item()) for i in range(11)]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_timm_optimiser_and_scheduler(
    train: Callable[..., Any], run: Callable[..., int], options: dict[str, Any]
) -> None:
    pytest.importorskip("timm", exc_type=(ImportError, RuntimeError))
    pytest.importorskip("lmb_quant.integrations.timm.optim")
    options["train"]["optim_g"] = {"type": "timm/adamw", "lr": 1e-3, "weight_decay": 0.01}
    rates: list[float] = []
    options["train"]["scheduler"] = {"type": "timm/cosine", "t_initial": 12, "lr_min": 1e-5}
    train([], lambda model, it: rates.append(model.optimizer_g.param_groups[0]["lr"]))
    assert rates[0] > rates[6] > rates[11] > 0
    for path in Path("experiments/tiny").rglob("*12*"):
        path.unlink()
    rates.clear()
    assert run(options, "--auto_resume") == 0
    assert len(rates) == 4
