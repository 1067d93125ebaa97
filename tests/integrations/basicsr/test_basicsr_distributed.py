# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/compat.py and train.py under torchrun: two processes on the CPU, by gloo."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lmb_quant.integrations.basicsr.checkpoint import load_file
from lmb_quant.integrations.basicsr.metrics_log import read_validations

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def test_two_processes_resume_train_and_save(
    run: Callable[..., int], command: Callable[..., list[str]], environment: dict[str, str], options: dict[str, Any]
) -> None:
    options["train"]["hooks"] = [{"type": "FlipRatio"}, {"type": "BestCheckpoint"}]
    options["datasets"]["train"] |= {"num_worker_per_gpu": 1, "dataset_enlarge_ratio": 8}
    options["logger"]["save_checkpoint_freq"] = 2
    assert run(options, "--force_yml", "train:total_iter=8", "train:scheduler:T_max=12") == 0
    line = command(options, "--launcher", "pytorch", "--auto_resume", launcher=TORCHRUN)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "iter: 8" in done.stderr
    assert "iter 12/12" in done.stderr
    assert [figure["iter"] for figure in read_validations("experiments/tiny")] == [4, 8, 12]
    state = load_file(Path("experiments/tiny/training_states/12.state"))
    first, second = (generators["torch"] for generators in state["lmb"]["rng"])
    assert not torch.equal(first, second)

    network = load_file(Path("experiments/tiny/models/net_g_12.pth"))
    for path in Path("experiments/tiny").rglob("*12.*"):
        path.unlink()  # as if they had been killed after the 10th iteration, which was both processes' work
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "iter: 10" in done.stderr
    again = load_file(Path("experiments/tiny/models/net_g_12.pth"))
    assert network.keys() == again.keys()
    for key, tensors in network.items():
        assert all(torch.equal(again[key][name], value) for name, value in tensors.items())


def test_torchrun_is_asked_for(fails: Callable[..., str], options: dict[str, Any]) -> None:
    assert "needs torchrun" in fails(options, "--launcher", "pytorch")
