# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/basicsr/packing.py: `lmb-quant convert`, and what `upscale --model` says of a checkpoint."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import run_command

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.integrations.basicsr.checkpoint import load_weights
from lmb_quant.integrations.basicsr.networks import build
from lmb_quant.integrations.basicsr.packing import pack_checkpoint
from lmb_quant.ops.resample import upscale_image

NETWORK = {"type": "LMBSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    return partial(run_command, monkeypatch, capsys)


@pytest.fixture
def checkpoint(workplace: Path) -> Path:
    """A checkpoint whose plain weights and moving average differ, beside its option file."""
    plain, average = build(dict(NETWORK)), build(dict(NETWORK))
    with torch.no_grad():
        for net in (plain, average):
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    path = workplace / "net_g_latest.pth"
    torch.save({"params": plain.state_dict(), "params_ema": average.state_dict()}, path)
    (workplace / "options.yml").write_text(yaml.safe_dump({"network_g": NETWORK}))
    return path


def expected(checkpoint: Path, key: str | None, x: torch.Tensor) -> torch.Tensor:
    net = build(dict(NETWORK))
    load_weights(net, checkpoint, param_key=key)
    result: torch.Tensor = lmb.convert(net)(x)
    return result


def test_the_command_that_upscale_gives_packs_the_checkpoint(
    command: Callable[..., tuple[int, str, str]], checkpoint: Path
) -> None:
    code, _, err = command("upscale", "images/val", "-o", "out", "--model", checkpoint.name)
    assert code == 2
    assert "it is a PyTorch checkpoint, not a packed file" in err
    program, *words = shlex.split(err.partition("option file: ")[2].replace("FILE", "options.yml"))
    assert program == "lmb-quant"
    code, out, _ = command(*words)
    assert code == 0
    assert "LMBSRResNet with params_ema (the moving average)" in out
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(lmb.load("net.safetensors")(x), expected(checkpoint, "params_ema", x))
    assert command("upscale", "images/val", "-o", "out", "--model", "net.safetensors")[0] == 0
    code, _, err = command(*words)
    assert code == 2
    assert "net.safetensors: it exists" in err
    code, out, _ = command(*words, "--force", "--param-key", "params")
    assert code == 0
    assert "params (the plain weights)" in out
    assert torch.equal(lmb.load("net.safetensors")(x), expected(checkpoint, "params", x))


def test_a_network_for_several_factors_is_packed_for_one(
    command: Callable[..., tuple[int, str, str]], workplace: Path
) -> None:
    options = {"type": "LMBVDSR", "num_feat": 8, "num_conv": 1, "upscale": 1}
    (workplace / "options.yml").write_text(yaml.safe_dump({"network_g": options}))
    net = build(dict(options))
    torch.nn.init.normal_(net.conv_last.weight, std=0.1)
    torch.save({"params": net.state_dict()}, "net_g.pth")
    x = torch.rand(1, 3, 9, 8)
    for upscale in (2, 3):
        words = ("net_g.pth", "-opt", "options.yml", "-o", f"x{upscale}.safetensors", "--upscale", str(upscale))
        assert command("convert", *words)[0] == 0
        expected = lmb.convert(net.eval())(upscale_image(x, upscale, "bicubic"))
        assert torch.allclose(lmb.load(f"x{upscale}.safetensors")(x), expected, atol=1e-6)


def test_an_upscale_that_does_not_fit_is_an_error(checkpoint: Path) -> None:
    with pytest.raises(LMBError, match=r"--upscale: 3 does not fit .*options.yml, whose network_g has upscale: 2"):
        pack_checkpoint(checkpoint, "options.yml", Path("net.safetensors"), upscale=3)
    Path("vdsr.yml").write_text("network_g: {type: LMBVDSR, num_conv: 1, upscale: 1}")
    with pytest.raises(LMBError, match=r"upscale: 5 is not allowed. Allowed: 1, 2, 3, 4"):
        pack_checkpoint(checkpoint, "vdsr.yml", Path("net.safetensors"), upscale=5)


@pytest.mark.parametrize("content", ["params", "bare"])
def test_files_without_a_moving_average(checkpoint: Path, content: str) -> None:
    plain = torch.load(checkpoint)["params"]
    torch.save({"params": plain} if content == "params" else plain, checkpoint)
    packed = pack_checkpoint(checkpoint, "options.yml", Path("net.safetensors"))
    assert packed == ("LMBSRResNet", "params" if content == "params" else None, True)
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(lmb.load("net.safetensors")(x), expected(checkpoint, packed.key, x))


def test_another_architecture_is_loaded_into_its_network(
    command: Callable[..., tuple[int, str, str]], checkpoint: Path
) -> None:
    arch = {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}
    network = {"type": "LMBBinarized", "arch": arch}
    Path("options.yml").write_text(yaml.safe_dump({"network_g": network}))
    torch.save(build(network).state_dict(), checkpoint)
    code, out, _ = command("convert", checkpoint, "-opt", "options.yml", "-o", "net.safetensors")
    assert code == 0
    assert "lmb_quant.load('net.safetensors', model=...)" in out
    assert lmb.load("net.safetensors", model=build(arch))(torch.rand(1, 3, 6, 6)).shape == (1, 3, 12, 12)


def test_real_weights_as_int8(command: Callable[..., tuple[int, str, str]], checkpoint: Path) -> None:
    for name, real in (("float", "float32"), ("int8", "int8")):
        told = ("-opt", "options.yml", "-o", f"{name}.safetensors", "--real-weights", real)
        assert command("convert", checkpoint, *told)[0] == 0
    weights = [dict(lmb.load(f"{name}.safetensors").named_parameters()) for name in ("float", "int8")]
    assert Path("int8.safetensors").stat().st_size < Path("float.safetensors").stat().st_size
    assert torch.allclose(weights[0]["conv_first.weight"], weights[1]["conv_first.weight"], atol=0.02)
    assert not torch.equal(weights[0]["conv_first.weight"], weights[1]["conv_first.weight"])


@pytest.mark.parametrize(
    ("content", "network", "key", "message"),
    [
        (
            {"iter": 3, "epoch": 0},
            NETWORK,
            None,
            "neither 'params_ema' nor 'params'.*a training state; ",
        ),
        ({}, NETWORK, None, "neither 'params_ema'"),
        (None, NETWORK, "params_ena", "unknown entry 'params_ena'. Did you mean 'params_ema'"),
        (None, NETWORK | {"num_feat": 16}, None, r"does not fit LMBSRResNet: .*not \(16, 3, 3, 3\)"),
        (None, NETWORK | {"recipe": None}, None, "network_g: it is a float network"),
        (None, NETWORK | {"num_feta": 16}, None, "unknown key 'num_feta'"),
        (None, NETWORK | {"recipe": "dorefa"}, None, "does not fit|no packed form"),
    ],
)
def test_what_cannot_be_packed(
    checkpoint: Path, content: dict[str, Any] | None, network: dict[str, Any], key: str | None, message: str
) -> None:
    if content is not None:
        torch.save(content, checkpoint)
    Path("options.yml").write_text(yaml.safe_dump({"network_g": network}))
    with pytest.raises(LMBError, match=message):
        pack_checkpoint(checkpoint, "options.yml", Path("net.safetensors"), param_key=key)
    assert not Path("net.safetensors").exists()


def test_paths_that_are_not_there(checkpoint: Path) -> None:
    with pytest.raises(LMBError, match=r"none.pth: there is no such file"):
        pack_checkpoint(Path("none.pth"), "options.yml", Path("net.safetensors"))
    with pytest.raises(LMBError, match=r"-opt: there is no file 'none.yml'"):
        pack_checkpoint(checkpoint, "none.yml", Path("net.safetensors"))
    with pytest.raises(LMBError, match="there is no folder"):
        pack_checkpoint(checkpoint, "options.yml", Path("none/net.safetensors"))


def test_a_packed_file_is_trained_on(run: Callable[..., int], options: dict[str, Any]) -> None:
    """Its network is where the training begins: at a rate of 0 it ends there."""
    net = lmb.convert(build(dict(options["network_g"])))
    with torch.no_grad():
        net.conv_first.weight.add_(0.1)
    lmb.save(net, "start.safetensors")
    options["path"]["pretrain_network_g"] = "start.safetensors"
    options["train"]["optim_g"]["lr"] = 0.0
    assert run(options) == 0
    trained = build(dict(options["network_g"]))
    load_weights(trained, Path("experiments/tiny/models/net_g_latest.pth"))
    x = torch.rand(1, 3, 9, 8)
    assert torch.allclose(trained.eval()(x), net(x), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: None, "start.safetensors: it cannot be read: No such file"),
        (lambda: Path("start.safetensors").write_bytes(b"x" * 99), "start.safetensors: it is not a safetensors file"),
        (
            lambda: lmb.save(lmb.convert(build(NETWORK | {"recipe": "reactnet"})), "start.safetensors"),
            r"start.safetensors: layer 'body.0.conv1': its norm, 'batch', is folded",
        ),
        (
            lambda: lmb.save(lmb.convert(build(NETWORK | {"num_feat": 16})), "start.safetensors"),
            r"does not fit LMBSRResNet: .*not \(8, 3, 3, 3\)",
        ),
    ],
)
def test_a_packed_file_that_cannot_be_trained_on(
    make: Callable[[], object],
    error: str,
    run: Callable[..., int],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    make()
    options["path"]["pretrain_network_g"] = "start.safetensors"
    assert run(options) == 2
    assert re.search(error, " ".join(capsys.readouterr().err.split()))
    assert not Path("experiments").exists()
