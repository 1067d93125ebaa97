# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench: what all measurements share, and that a wrong output is never timed."""

import math
import os

import pytest
import torch

from lmb_quant import LMBError
from lmb_quant.bench import layers, memory
from lmb_quant.bench.child import in_child
from lmb_quant.bench.kernels import measure_kernels
from lmb_quant.bench.measure import Competitor, clock_of, require, sqnr, time_in_turn
from lmb_quant.bench.networks import make_networks
from lmb_quant.bench.report import write_output
from lmb_quant.bench.speed import measure_speed


def test_competitors_run_in_turn_with_their_threads_after_their_preparation():
    seen, before = [], torch.get_num_threads()

    def competitor(name, threads):
        return Competitor(
            lambda: seen.append((name, torch.get_num_threads())), lambda: seen.append(f"before {name}"), threads
        )

    times = time_in_turn({"a": competitor("a", 1), "b": competitor("b", 2)}, rounds=2)
    assert seen == ["before a", ("a", 1), "before b", ("b", 2)] * 3  # the first round warms up
    assert torch.get_num_threads() == before
    assert times["a"].shown == times["a"].cpu
    assert times["b"].cpu is None
    assert 0 < times["b"].shown.minimum <= times["b"].shown.median < 1
    assert [clock_of(1), clock_of(2)] == ["CPU time of the thread", "wall time"]


def test_sqnr_is_in_decibels():
    x = torch.tensor([3.0, 4.0])
    assert sqnr(x, x) == math.inf
    assert sqnr(x, x + torch.tensor([0.3, 0.4])) == pytest.approx(20, abs=1e-5)
    with pytest.raises(LMBError, match=r"net: its output is wrong, nothing was timed: 20\.0 dB"):
        require("net", 20.0, 40)
    with pytest.raises(LMBError, match="its output is wrong"):
        require("net", math.nan, 40)


def test_a_packed_layer_with_one_wrong_bit_is_not_timed(monkeypatch):
    right = layers.reference.binary_conv2d

    def wrong(x, arguments):
        weight_packed = arguments.weight_packed.clone()
        weight_packed[0, 0] ^= 1
        return right(x, arguments._replace(weight_packed=weight_packed))

    monkeypatch.setattr(layers.reference, "binary_conv2d", wrong)
    with pytest.raises(LMBError, match="8 channels: packed, in place: its output is wrong"):
        measure_kernels(channels=[8], size=(6, 7), rounds=1, with_compiled=False)


def test_a_network_of_other_weights_is_not_timed(monkeypatch):
    def other(*args):
        networks = make_networks(*args)
        next(networks.packed.body.children()).conv1.weight_packed.bitwise_not_()
        return networks

    monkeypatch.setattr("lmb_quant.bench.speed.make_networks", other)
    with pytest.raises(LMBError, match="packed: its output is wrong"):
        measure_speed(blocks=1, num_feat=8, size=(6, 7), rounds=1, threads=1, with_compiled=False)


def exits(code):
    os._exit(code)


def raises(text):
    raise LMBError(text)


def test_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("LMB_QUANT_TEST_A", "before")
    environment = {"LMB_QUANT_TEST_A": "1", "LMB_QUANT_TEST_B": "2"}
    assert in_child(os.getpid) != os.getpid()
    assert in_child(os.getenv, "LMB_QUANT_TEST_B", environment=environment) == "2"
    assert os.environ["LMB_QUANT_TEST_A"] == "before"
    assert "LMB_QUANT_TEST_B" not in os.environ
    with pytest.raises(LMBError, match="from the child"):
        in_child(raises, "from the child")
    with pytest.raises(LMBError, match="its process died"):
        in_child(exits, 3)


def peaks(path, arch, arguments):
    """Those of a small and of a large image, in the process that asks."""
    return [memory._float_peak(path, arch, arguments, (side, side), 1) for side in (32, 96)]


@pytest.mark.skipif(not memory.can_measure(), reason="the system does not tell a process's peak")
def test_the_peak_of_memory_grows_with_the_image(tmp_path):
    from safetensors.torch import save_file

    net = make_networks("vdsr", 1, 16)
    save_file({name: t.contiguous() for name, t in net.floating.state_dict().items()}, tmp_path / "net.safetensors")
    small, large = in_child(peaks, tmp_path / "net.safetensors", net.name, net.arguments)
    values = 16 * (4 * 96) ** 2  # of one feature map
    assert large - small > 4 * values


def test_figures_go_to_a_new_file_only(tmp_path):
    write_output(tmp_path / "a.json", "1")
    with pytest.raises(LMBError, match=r"a.json: it exists"):
        write_output(tmp_path / "a.json", "2")
    assert (tmp_path / "a.json").read_text() == "1"
