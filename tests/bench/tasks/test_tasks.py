# SPDX-License-Identifier: Apache-2.0
"""Two tasks on the same photographs: what is trained on and tested on, what is kept, what is reported."""

import csv
import dataclasses
import io
import math
import sys

import numpy as np
import pytest
import torch
from helpers import binary
from PIL import Image
from rich.console import Console

from lmb_quant import LMBError, cli
from lmb_quant.bench.tasks import report as module
from lmb_quant.bench.tasks import run_tasks, show_tasks
from lmb_quant.bench.tasks.data import contents, draw_patches, held_out_patches, read_halves
from lmb_quant.bench.tasks.report import losses, table
from lmb_quant.bench.tasks.settings import CELLS, SR, Cell, Classification, Settings
from lmb_quant.bench.tasks.training import build

TINY = Settings(
    photographs=3,
    steps=2,
    batch=2,
    sr=SR(patch=48, num_feat=8, num_block=1),
    classification=Classification(patch=32, tests=4, widths=(8, 8, 8, 8)),
)


@pytest.fixture
def data(tmp_path):
    """Three photographs, the right quarter of each one colour; one is too small."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 128, (72, 136, 3), dtype=np.uint8)
        pixels[:, 102:] = 200 + i
        Image.fromarray(pixels).save(folder / f"{i}.png")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "small.png")
    return folder


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def test_training_and_test_never_share_a_pixel(data):
    photographs, small = read_halves(data, TINY)
    assert (len(photographs), small) == (3, 1)
    patches, numbers = draw_patches(photographs, 32, 50, np.random.default_rng(0))
    assert patches.max() < 128, "the right quarters are brighter"
    assert set(numbers.tolist()) == {0, 1, 2}
    held_out, numbers = held_out_patches(photographs, 32, 4)
    assert numbers.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [int(patch[0, 0, 0]) for patch in held_out] == [200] * 4 + [201] * 4 + [202] * 4


def test_photographs_that_cannot_be_used(data, tmp_path):
    for name in ("1.png", "2.png"):
        (data / name).unlink()
    with pytest.raises(LMBError, match=r"holds 1 photographs that are large enough, of 2. Allowed: two or more"):
        read_halves(data, TINY)


def test_the_networks_differ_in_their_recipe_only():
    for task, layers in (("sr", 2), ("classification", 16)):
        nets = {method: build(Cell(task, method), TINY, 3) for method in ("float", "sign", "lmb-global", "lmb")}
        assert [len(binary(net)) for net in nets.values()] == [0, layers, layers, layers]
        weights = [
            next(value for name, value in net.state_dict().items() if "conv1.weight" in name) for net in nets.values()
        ]
        assert all(torch.equal(weight, weights[0]) for weight in weights)


def test_cells_are_kept_and_begin_again_after_a_failure(data, tmp_path, console, monkeypatch):
    monkeypatch.setattr(module, "_analysis", lambda *args: pytest.fail("needs both float networks"))
    assert run_tasks(data, tmp_path / "out", console, only="*/lmb", settings=TINY) == 0
    files = sorted((tmp_path / "out" / "tasks").iterdir())
    assert len(files) == 4
    times = [path.stat().st_mtime_ns for path in files]
    monkeypatch.setattr("lmb_quant.bench.tasks.run.train", lambda *args: pytest.fail("it was finished"))
    run_tasks(data, tmp_path / "out", console, only="*/lmb", settings=TINY)
    assert [path.stat().st_mtime_ns for path in files] == times
    show_tasks(data, tmp_path / "out", console, settings=TINY)
    text = console.file.getvalue()
    assert text.count("finished") == 2
    assert text.count("to train") == len(CELLS) - 2
    assert "1 photographs are too small and left out" in text
    other = dataclasses.replace(TINY, classification=Classification(patch=32, tests=2, widths=(8, 8, 8, 8)))
    run_tasks(data, tmp_path / "out", console, only="sr/lmb", settings=other)
    with pytest.raises(BaseException, match="it was finished"):
        run_tasks(data, tmp_path / "out", console, only="sr/lmb", settings=dataclasses.replace(TINY, steps=3))


def test_a_folder_of_results_that_cannot_be_made_is_said_before_training(data, tmp_path, console, monkeypatch):
    monkeypatch.setattr("lmb_quant.bench.tasks.run.train", lambda *args: pytest.fail("it began"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "reports").touch()
    for folder, name in ((tmp_path / "out", "reports"), (tmp_path / "out" / "reports", "tasks")):
        with pytest.raises(LMBError, match=f"{name}: the folder cannot be made"):
            run_tasks(data, folder, console, settings=TINY)


def test_the_report_compares_both_float_networks(data, tmp_path, console, monkeypatch):
    monkeypatch.setattr("lmb_quant.analysis.report.write.network_plots", lambda network: [])  # tested there
    run_tasks(data, tmp_path / "out", console, only="*/float", settings=TINY)
    folder = tmp_path / "out" / "reports"
    page = (folder / "tasks.html").read_text(encoding="utf-8")
    assert "SR: LMBSRResNet, float" in page
    assert "Classification: ResNet-18, float" in page
    assert "Two tasks on the same photographs" in page
    rows = list(csv.reader(io.StringIO((folder / "tasks.csv").read_text())))
    assert [row[0] for row in rows[1:]] == ["no network: bicubic, guessing", "float"]
    assert rows[1][3] == "33.3 %"


def test_what_is_lost_is_a_share_of_what_float_gains():
    results = {
        "sr/float": {"score": 32.0, "baseline": 30.0, "seconds": 60.0},
        "sr/sign": {"score": 31.0, "baseline": 30.0, "seconds": 30.0},
        "classification/float": {"score": 0.25, "baseline": 0.25, "seconds": 60.0},
        "classification/lmb": {"score": 0.5, "baseline": 0.25, "seconds": 60.0},
    }
    assert losses(results, "sr") == {"float": 0.0, "sign": 0.5}
    assert math.isnan(losses(results, "classification")["lmb"])
    found = {row[0].partition(":")[0]: row[1:] for row in table(results).rows}
    assert found["no network"] == ("30.00", "", "25.0 %", "", "")
    assert found["sign"] == ("31.00", "50 %", "", "", "0.5")
    assert found["lmb"] == ("", "", "50.0 %", "", "1.0")
    assert table({}).rows[0][1:] == ("", "", "", "", "")


def test_other_pixels_are_other_cells(data):
    photographs, _ = read_halves(data, TINY)
    changed = dataclasses.replace(photographs[0], test=photographs[0].test + 1)
    assert contents(photographs) != contents([changed, *photographs[1:]])


def test_the_command(data, tmp_path, monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["lmb-quant", "bench", "run", "tasks", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, " ".join(captured.err.split())

    assert "--data: it is missing" in command()[2]
    assert "are not allowed" in command("--data", data, "--jobs", 2)[2]
    assert "matches no cell. Cells: sr/float" in command("--data", data, "--only", "srx")[2]
