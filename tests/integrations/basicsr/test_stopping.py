# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/stopping.py: trainings that a signal stops, and how they go on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lmb_quant.integrations.basicsr as host
from lmb_quant.integrations.basicsr.checkpoint import last_complete, load_file
from lmb_quant.integrations.basicsr.metrics_log import read_validations
from lmb_quant.integrations.basicsr.stopping import StoppedBySignal, stop_if_asked, stoppable

STATES = Path("experiments/tiny/training_states")


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, list[int]]], None]:
    """Sends this process real signals, in the midst of the given iterations."""

    def send(plan: dict[int, list[int]]) -> None:
        step = host.LMBModel.optimize_parameters

        def interrupted(self: host.LMBModel, current_iter: int) -> None:
            for number in plan.get(current_iter, []):
                os.kill(os.getpid(), number)
            step(self, current_iter)

        monkeypatch.setattr(host.LMBModel, "optimize_parameters", interrupted)

    return send


def same(first: str, second: str) -> bool:
    a, b = (load_file(Path("experiments", name, "training_states/12.state")) for name in (first, second))
    nets = [load_file(Path("experiments", name, "models/net_g_latest.pth")) for name in (first, second)]
    return torch.equal(a["lmb"]["rng"][0]["torch"], b["lmb"]["rng"][0]["torch"]) and all(
        torch.equal(nets[0][key][name], nets[1][key][name]) for key in nets[0] for name in nets[0][key]
    )


@pytest.mark.parametrize(
    ("number", "code", "iteration"),
    [(signal.SIGINT, 130, 6), (signal.SIGTERM, 143, 7), (signal.SIGTERM, 143, 8)],
    ids=["INT", "TERM", "TERM-as-one-is-due"],
)
def test_a_stopped_run_goes_on_as_an_unbroken_one(
    run: Callable[..., int],
    options: dict[str, Any],
    signals: Callable[[dict[int, list[int]]], None],
    capfd: pytest.CaptureFixture[str],
    number: int,
    code: int,
    iteration: int,
) -> None:
    options["train"]["hooks"] = [{"type": "BestCheckpoint"}, {"type": "FlipRatio", "every": 3}]
    assert run({**options, "name": "unbroken"}) == 0
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    signals({iteration: [number]})
    assert run(options, "--force_yml", "manual_seed=3") == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    said = capfd.readouterr().err
    name = signal.Signals(number).name
    assert f"{name}: a checkpoint follows this iteration; a second signal ends at once" in said
    state = STATES / f"{iteration}.state"
    line = said.strip().splitlines()[-1]
    assert line.startswith(f"stopped by {name} after iteration {iteration}; its checkpoint is {state}. To go on: ")
    assert last_complete(STATES)[0] is not None
    assert last_complete(STATES)[0].resolve() == state.resolve()  # type: ignore[union-attr]

    signals({})
    program, command, _, path, *words = shlex.split(line.partition("To go on: ")[2])
    assert (program, command, path) == ("lmb-quant", "train", str(Path.cwd() / "options.yml"))
    assert words == ["--force_yml", "manual_seed=3", "--auto_resume"]
    assert run(options, *words) == 0
    assert read_validations("experiments/tiny") == read_validations("experiments/unbroken")
    assert same("tiny", "unbroken")


def test_a_second_signal_ends_at_once(
    run: Callable[..., int],
    options: dict[str, Any],
    signals: Callable[[dict[int, list[int]]], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    signals({7: [signal.SIGINT, signal.SIGTERM]})
    assert run(options) == 143
    said = capfd.readouterr().err
    assert "stopped by SIGTERM at once; the last checkpoint, if there is one, holds. " in said
    assert "To go on: lmb-quant train -opt" in said
    assert last_complete(STATES)[0].name == "4.state"  # type: ignore[union-attr]


def test_stopped_before_anything_was_done(
    run: Callable[..., int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = host.LMBModel.init_training_settings

    def interrupted(self: host.LMBModel) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        setup(self)

    monkeypatch.setattr(host.LMBModel, "init_training_settings", interrupted)
    assert run(options) == 143
    assert "stopped by SIGTERM at once" in capfd.readouterr().err
    assert not list(STATES.iterdir())


def test_a_stopped_run_of_the_stock_model_goes_on(
    run: Callable[..., int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from basicsr.models.sr_model import SRModel

    options["model_type"] = "SRModel"
    options["train"]["scheduler"] = {"type": "CosineAnnealingRestartLR", "periods": [12]}
    step = SRModel.optimize_parameters

    def interrupted(self: Any, current_iter: int) -> None:
        step(self, current_iter)
        if current_iter == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(SRModel, "optimize_parameters", interrupted)
        assert run(options) == 143
    assert (STATES / "6.state").exists()
    assert run(options, "--auto_resume") == 0
    assert (STATES / "12.state").exists()


def test_a_signal_to_the_whole_group_reaches_loader_processes_too(
    command: Callable[..., list[str]], environment: dict[str, str], options: dict[str, Any]
) -> None:
    """As a terminal and a cluster send it."""
    options["train"]["total_iter"] = 100_000
    options["val"] = None
    options["datasets"]["train"]["num_worker_per_gpu"] = 1
    options["logger"]["save_checkpoint_freq"] = 99_999
    line, log = command(options), Path("log")
    with (
        log.open("wb") as file,
        subprocess.Popen(line, env=environment, stdout=file, stderr=file, start_new_session=True) as process,
    ):
        deadline = time.monotonic() + 120
        while b"iter 4/" not in log.read_bytes() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 143, log.read_text()
    path, _ = last_complete(STATES)
    assert path is not None
    assert f"its checkpoint is {path}" in log.read_text()


def test_where_signals_are_ignored_they_stay_so() -> None:
    """As in a shell's background job, or under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
            os.kill(os.getpid(), signal.SIGINT)
            stop_if_asked(3, torch.device("cpu"), lambda: None)
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(StoppedBySignal) as caught:
                stop_if_asked(4, torch.device("cpu"), lambda: Path("4.state"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (caught.value.exit_code, caught.value.iteration, caught.value.state) == (143, 4, Path("4.state"))
    stop_if_asked(5, torch.device("cpu"), lambda: None)  # outside nothing is asked


def test_auto_resume_that_finds_nothing_says_so(
    run: Callable[..., int], options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    options["train"]["total_iter"] = 4
    for name in ("tiny_x2", "other"):
        assert run({**options, "name": name}) == 0
    capfd.readouterr()
    assert run(options, "--auto_resume") == 0
    said = capfd.readouterr()
    assert "experiments/tiny has no complete checkpoint: the training begins anew" in said.err + said.out
    assert "Runs that look like it: tiny_x2; name chooses the run" in said.err + said.out
    assert run(options, "--auto_resume") == 0
    said = capfd.readouterr()
    assert "no complete checkpoint" not in said.err + said.out
