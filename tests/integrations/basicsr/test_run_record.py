# SPDX-License-Identifier: Apache-2.0
"""integrations/basicsr/{run_record,json_lines}.py: with what a training was begun and continued."""

from pathlib import Path

import pytest
import torch

from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.json_lines import read_lines, write_lines
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


def test_lines_are_read_back_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    write_lines(path, [{"a": 1}, {"b": "ä\n"}])
    assert read_lines(path) == [{"a": 1}, {"b": "ä\n"}]
    path.write_text(path.read_text() + '{"a": ')
    with pytest.raises(LMBError, match=r"x.jsonl, line 3: '{\"a\": ' is no JSON object. Mend it or remove the line"):
        read_lines(path)
    path.write_bytes(b"\xff")
    with pytest.raises(LMBError, match=r"x.jsonl: cannot be read"):
        read_lines(path)


@pytest.mark.parametrize("name", ["runs.jsonl", "validation.jsonl"])
def test_a_damaged_record_stops_a_continuation_with_a_message(run, options, capsys, name):
    options["train"]["total_iter"] = 4
    assert run(options) == 0
    path = Path("experiments/tiny") / name
    path.write_text(path.read_text()[:-5])
    assert run(options, "--auto_resume") == 2
    assert f"{name}, line 1: " in capsys.readouterr().err
