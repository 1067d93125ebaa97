# SPDX-License-Identifier: Apache-2.0
"""integrations/basicsr/hooks/step_times.py: every step is counted but those that hold a validation or a checkpoint."""

from pathlib import Path

import torch

from lmb_quant.integrations.basicsr.hooks.step_times import StepTimes, read_step_times


def test_the_file_and_the_state(run, options):
    options["train"]["hooks"] = [{"type": "StepTimes", "every": 0.0}]
    assert read_step_times(Path("experiments/tiny")) == {}
    assert run(options) == 0
    found = read_step_times(Path("experiments/tiny"))
    assert found["iter"] == 12
    assert 0 < found["median"] <= 12 * found["seconds"]
    state = torch.load("experiments/tiny/training_states/12.state", weights_only=True)
    (counted,) = (kept for name, kept in state["lmb"]["hooks"] if name == "StepTimes")
    assert counted["count"] == len(counted["recent"]) == 9  # 12 steps, less one for each stretch of 4
    hook = StepTimes()
    hook.load_state_dict(counted)
    assert hook.state_dict() == counted


def test_what_was_measured_before_a_resume_is_kept(run, options):
    options["train"]["hooks"] = [{"type": "StepTimes"}]
    assert run(options) == 0
    options["train"]["total_iter"] = 16
    assert run(options, "--auto_resume") == 0
    state = torch.load("experiments/tiny/training_states/16.state", weights_only=True)
    (counted,) = (kept for name, kept in state["lmb"]["hooks"] if name == "StepTimes")
    assert counted["count"] == 12
