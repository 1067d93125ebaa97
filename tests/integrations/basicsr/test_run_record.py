# SPDX-License-Identifier: Apache-2.0
"""integrations/basicsr/run_record.py: with what a training was begun and continued."""

import torch

from lmb_quant.integrations.basicsr.run_record import read_runs


def test_a_start_and_a_continuation(run, options):
    assert read_runs("experiments/tiny") == []
    assert run(options) == 0
    options["train"]["total_iter"] = 16
    assert run(options, "--auto_resume") == 0
    runs = read_runs("experiments/tiny")
    assert [entry["iter"] for entry in runs] == [0, 12]
    assert [entry["seed"] for entry in runs] == [3, 3]
    for entry in runs:
        assert entry["versions"]["torch"] == torch.__version__
        assert entry["machine"]["cpu"]
        assert entry["threads"] == 1
