# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/run: a suite and its processes: every cell is done once, whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from lmb_quant import LMBError
from lmb_quant.archs import LMBSRResNet
from lmb_quant.bench.suite.measure.evaluate import evaluate
from lmb_quant.bench.suite.run.dry_run import show
from lmb_quant.bench.suite.run.process import Outcome
from lmb_quant.bench.suite.run.progress import steps_done
from lmb_quant.bench.suite.run.run import run
from lmb_quant.bench.suite.run.schedule import run_locally
from lmb_quant.counting import summary
from lmb_quant.integrations.basicsr.checkpoint import load_weights
from lmb_quant.integrations.basicsr.metrics import run_network


def told(job, jobs=2, **options):
    """Runs a job in two processes; returns the exit code and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    code = run(job, console, jobs=jobs, **options)
    return code, console.file.getvalue()


def until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_run_gives_every_figure_and_a_second_one_does_nothing(suite, job, tmp_path):
    suite |= {"methods": ["bicubic", "float", "lmb", "broken.yaml"]}
    recipe = "version: 1\nmetadata: {name: x}\nscheme: {activation: {binarizer: nothing}, weight: {binarizer: sign}}\n"
    (tmp_path / "broken.yaml").write_text(recipe)
    first = job(suite)
    log = first.store.log(first.cells[3])
    log.parent.mkdir(parents=True)
    log.write_text("error: of another runner's process\n")
    code, out = told(first)
    assert code == 1
    assert log.read_text().startswith("error: of another runner's process\n")
    assert "net/broken/x2/seed0: failed (exit code 1): " in out
    assert "unknown activation binarizer 'nothing'" in out
    assert "1 cells failed" in out
    bicubic, floating, lmb, broken = (first.store.result(cell) for cell in first.cells)
    assert broken is None
    assert "nothing" in first.store.failure(first.cells[3])["error"]
    assert bicubic["scores"]["c"]["psnr"] > 10
    assert "figures" not in bicubic

    assert [entry["iter"] for entry in lmb["curve"]] == [3, 6]
    assert lmb["curve"][-1]["psnr"] == pytest.approx(lmb["scores"]["c"]["psnr"], abs=1e-9)
    assert set(lmb["scores"]["c"]["images"]) == {"0"}
    assert lmb["training_seconds"] == pytest.approx(6 * lmb["step_seconds"], rel=3)
    net = LMBSRResNet(num_feat=8, num_block=1, upscale=2)
    expected = summary(net, (1, 3, 360, 640))
    figures = lmb["figures"]
    assert (figures["params"], figures["ops"], figures["additions"]) == (
        expected.params, expected.ops, expected.additions,
    )  # fmt: skip
    assert figures["float_macs"] + figures["binary_macs"] == expected.float_ops
    assert figures["bytes_note"] == ""
    assert figures["bytes"] < floating["figures"]["bytes"]
    assert floating["figures"]["binary_macs"] == 0
    assert lmb["versions"]["torch"] == torch.__version__
    assert lmb["machine"]["cpu"]
    assert (first.store.pictures(first.cells[2]) / "c" / "0.png").exists()

    cell = first.cells[2]  # scores are those of the trained network
    load_weights(net, first.store.weights(cell))
    sets = {images.name: images.folder for images in cell.test}
    assert lmb["scores"] == evaluate(lambda image: run_network(net, image), sets, 2, tmp_path / "pictures")

    results = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").iterdir()}
    suite["methods"] = ["bicubic", "float", "lmb"]
    code, out = told(job(suite))
    assert code == 0
    assert "[" not in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").iterdir()} == results

    suite["data"] |= {"test": ["c", "d"], "validate": "c"}  # the trained network is evaluated again, not trained
    second = job(suite, "lmb")
    assert steps_done(second.missing[0], second.store) == 6
    before = (second.store.work(second.missing[0]) / "experiments" / "cell" / "step_times.json").read_text()
    assert told(second)[0] == 0
    after = second.store.result(second.selected[0])
    assert after["scores"]["c"] == lmb["scores"]["c"]
    assert set(after["scores"]) == {"c", "d"}
    assert (second.store.work(second.selected[0]) / "experiments" / "cell" / "step_times.json").read_text() == before


@pytest.mark.train
def test_a_stopped_and_a_killed_run_lose_no_step_and_continue_to_the_same_result(suite, job, command, tmp_path):
    suite["methods"] = ["lmb"]
    suite["training"] |= {"steps": 240, "validate_every": 120, "checkpoint_every": 5}
    unbroken = job(suite)
    assert told(unbroken)[0] == 0
    cell = unbroken.cells[0]
    expected = unbroken.store.result(cell)
    (tmp_path / "out").rename(tmp_path / "unbroken")

    for times, number in enumerate((signal.SIGINT, signal.SIGKILL), start=1):
        before = steps_done(cell, unbroken.store)
        with subprocess.Popen(command(suite), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until(lambda: steps_done(cell, unbroken.store) > before or process.poll() is not None)  # noqa: B023
            assert process.poll() is None, "it ended before it could be stopped"
            process.send_signal(number)
        until(lambda: not unbroken.store.is_locked(cell))  # the cell's own process ends with its runner
        assert unbroken.store.result(cell) is None
        assert before < steps_done(cell, unbroken.store) < 240
        assert unbroken.store.log(cell).read_text().count("a checkpoint follows this iteration") == times
    assert told(unbroken)[0] == 0
    result = unbroken.store.result(cell)
    assert result["scores"] == expected["scores"]
    assert result["curve"] == expected["curve"]


@pytest.mark.train
def test_two_runners_share_a_folder_and_do_no_cell_twice(suite, command, job):
    suite["methods"] = ["float", "sign"]
    with subprocess.Popen(command(suite, "--jobs", "1"), stdout=subprocess.PIPE, text=True) as other:
        until((job(suite).store.root / "work").exists)  # it is at work, and so is this process now
        codes, outputs = zip(told(job(suite), jobs=1), (None, other.communicate(timeout=600)[0]), strict=True)
    assert (codes[0], other.returncode) == (0, 0)
    assert all(output.count("/x2/seed0: c ") == 2 for output in outputs)  # each waits for what the other does
    done = job(suite)
    for cell in done.cells:
        logs = list((done.store.work(cell) / "experiments" / "cell").glob("train_*.log"))
        assert len(logs) == 1, cell.name


def test_any_scheduler_will_do(suite, job, monkeypatch):
    """The seam for other schedulers: cells in, pairs of cell and outcome out."""
    asked, measured = [], []
    monkeypatch.setattr("lmb_quant.bench.suite.run.run.measure", lambda *arguments: measured.append(arguments[1]))

    def scheduler(cells, store, tick):
        for cell in cells:
            asked.append(cell.name)
            yield cell, Outcome.STOPPED

    code, out = told(job(suite), scheduler=scheduler)
    assert code == 0
    assert asked == [cell.name for cell in job(suite).cells]
    assert out.count(": stopped\n") == 3
    assert measured == []
    told(job(suite), scheduler=scheduler, latency=True)
    told(job(suite | {"latency": True}), scheduler=scheduler)
    assert [[cell.name for cell in cells] for cells in measured] == [[cell.name for cell in job(suite).cells]] * 2


def test_a_process_that_dies_is_a_failure_and_a_cell_of_another_process_is_waited_for(suite, job):
    """A scheduler sees a busy cell as neither done nor failed, and takes it when it is free."""
    suite["training"]["steps"] = 60  # so many that it is seen at work
    ran = job(suite, "float")
    cell = ran.selected[0]

    def kill_when_it_works():
        if ran.store.is_locked(cell):
            for pid in Path("/proc").glob("[0-9]*"):
                try:
                    words = (pid / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"lmb_quant.bench.suite.run.worker" in words and str(ran.store.root).encode() in words:
                    os.kill(int(pid.name), signal.SIGSEGV)

    ended = list(run_locally(1)([cell], ran.store, kill_when_it_works))
    assert ended == [(cell, Outcome.FAILED)]
    assert ran.store.failure(cell)["exit"] == "ended by SIGSEGV"

    lock = ran.store.lock(cell)
    lock.acquire()
    ticks = []

    def tick():
        ticks.append(None)
        if len(ticks) == 3:
            lock.release()

    assert list(run_locally(1)([cell], ran.store, tick)) == [(cell, Outcome.DONE)]
    assert len(ticks) > 3
    assert ran.store.failure(cell) is None


def test_dry_run_lists_cells_and_says_where_the_time_is_from(suite, job, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    prepared = job(suite)
    show(prepared, console, jobs=2)
    text = console.file.getvalue()
    assert text.count("missing") == text.count("no step measured yet") == 3
    assert "Not counted: 3 cells" in text
    assert "0 of 3 cells are finished" in text
    assert not (tmp_path / "out" / "work" / prepared.cells[0].training_key / "experiments").exists()

    result = {"step_seconds": 600.0, "versions": {"lmb-quant": "0.1.0", "commit": "another"}, "scores": {}}
    prepared.store.write_result(prepared.cells[1], result)
    show(prepared, console, jobs=2)
    text = console.file.getvalue()
    assert text.count("measured on other methods") == 2
    assert "Training left: 2:00:00 in one process, about 1:00:00 with 2 at a time" in text
    assert "1 finished cells were made by other code" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"type": "Adamm", "lr": 1e-3}}, "unknown optimizer 'Adamm'"),
        ({"scheduler": {"type": "Nope"}}, "unknown scheduler 'Nope'"),
        ({"loss": {"type": "L1Los"}}, "unknown loss 'L1Los'"),
    ],
)
def test_settings_that_would_fail_every_cell_are_found_at_the_start(suite, job, changes, message):
    suite["training"] |= changes
    with pytest.raises(LMBError, match=message):
        told(job(suite))


@pytest.mark.parametrize(
    ("pixels", "message"), [(b"", "cannot be read"), ((64, 14), r"data\.test: d: .*64 x 14 pixels.* Allowed: 15 x 15")]
)
def test_test_images_are_read_at_the_start(suite, job, data, pixels, message):
    path = data / "test" / "d" / "z.png"
    Image.new("RGB", pixels).save(path) if pixels else path.write_bytes(pixels)
    suite["data"] |= {"test": ["c", "d"], "validate": "c"}
    with pytest.raises(LMBError, match=message) as caught:
        told(job(suite))
    assert str(path) in str(caught.value)


def test_a_damaged_result_is_named(suite, job, tmp_path):
    prepared = job(suite)
    path = tmp_path / "out" / "cells" / f"{prepared.cells[0].key}.json"
    path.parent.mkdir()
    path.write_text('{"format": 1')
    with pytest.raises(LMBError, match=r"cells/\w+.json: cannot be read: .* Remove it"):
        prepared.missing  # noqa: B018


def test_the_manifest_says_what_the_suite_resolved_to(suite, job, tmp_path):
    prepared = job(suite)
    path = tmp_path / "out" / "suites" / "tiny.json"
    assert not path.exists()  # a dry run replaces no record
    prepared.record()
    manifest = json.loads(path.read_text())
    assert [cell["key"] for cell in manifest["cells"]] == [cell.key for cell in prepared.cells]
    assert manifest["data"]["train"][0]["images"] == 2
    assert manifest["suite"]["training"]["steps"] == 6
