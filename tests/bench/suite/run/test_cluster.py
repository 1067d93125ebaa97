# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/run/cluster.py: a cluster of two nodes, of which one is killed while it works."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import run_command

from lmb_quant import LMBError
from lmb_quant.bench.suite.run import cluster

HAS_RAY = importlib.util.find_spec("ray") is not None
# In a process of its own: Ray warns of this and that, and starts threads. Each cell is halted when it has a checkpoint,
# so that both nodes are at work when one is lost, and goes on when the lost node's processes are gone.
PROGRAM = """
import json, sys, time
from pathlib import Path
import psutil
from ray.cluster_utils import Cluster
from lmb_quant.bench.suite.run.cluster import run_on_ray
from lmb_quant.bench.suite.run.job import prepare
from lmb_quant.bench.suite.run.progress import steps_done

suite, data, output = map(Path, sys.argv[1:])
job = prepare(suite, data=data, output=output)
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = nodes.add_node(num_cpus=1)
nodes.wait_for_nodes()
halted = {}

def process_of(cell):
    command = str(job.store.work(cell) / f"{cell.key}.json")
    return next(p for p in psutil.process_iter(["cmdline"]) if command in (p.info["cmdline"] or []))

def tick():
    if len(halted) == 2:
        return
    for cell in job.cells:
        if cell.name not in halted and job.store.is_locked(cell) and steps_done(cell, job.store):
            halted[cell.name] = process_of(cell)
            halted[cell.name].suspend()
    if len(halted) == 2:
        parents = [process.ppid() for process in halted.values()]
        nodes.remove_node(second, allow_graceful=False)
        while [process.ppid() for process in halted.values()] == parents:
            time.sleep(0.1)
        for process in halted.values():
            process.resume()

ended = [(cell.name, outcome.value) for cell, outcome in run_on_ray(nodes.address)(job.missing, job.store, tick)]
nodes.shutdown()
print(json.dumps({"ended": ended, "killed": list(halted)}))
"""


@pytest.mark.train
@pytest.mark.skipif(not HAS_RAY, reason="needs ray")
def test_a_killed_node_loses_no_cell_and_none_is_done_twice(suite, write, data, tmp_path):
    suite["methods"] = ["float", "lmb"]
    suite["training"] |= {"steps": 160, "validate_every": 160, "checkpoint_every": 8}
    program = [sys.executable, "-c", PROGRAM, str(write(suite)), str(data), str(tmp_path / "out")]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["killed"]) == 2, "both nodes were to be at work when one was killed"
    assert sorted(told["ended"]) == [[f"net/{method}/x2/seed0", "done"] for method in ("float", "lmb")]
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 2
    logs = {work: len(list(work.glob("experiments/cell/train_*.log"))) for work in Path(tmp_path, "out/work").iterdir()}
    assert sorted(logs.values()) == [1, 2]  # the killed node's cell was continued, the other was done once


@pytest.mark.skipif(not HAS_RAY, reason="needs ray")
def test_no_cluster_is_a_users_mistake(suite, job):
    prepared = job(suite)
    with pytest.raises(LMBError, match=r"--ray: '127.0.0.1:1': there is no cluster"):
        list(cluster.run_on_ray("127.0.0.1:1")(prepared.missing, prepared.store, lambda: None))


def test_without_ray_the_message_holds_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LMBError, match=r"pip install 'lmb-quant\[ray\]'"):
        cluster.run_on_ray("auto")


def test_a_cluster_decides_how_many_cells_at_a_time(monkeypatch, capsys):
    code, _, error = run_command(monkeypatch, capsys, "bench", "run", "quick", "--ray", "auto", "--jobs", "2")
    assert code == 2
    assert "--jobs and --ray exclude each other" in error
