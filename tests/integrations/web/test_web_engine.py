# SPDX-License-Identifier: Apache-2.0
"""The engine in WebAssembly, by Node: the native engine's pixels, and the module's behaviour."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lmb_quant as lmb
from lmb_quant.integrations.web.build import ENGINES
from lmb_quant.machine import cpu_flags
from lmb_quant.ops._library import find
from lmb_quant.zoo import network_names

HERE = Path(__file__).parent
MODULE = HERE.parents[2] / "integrations" / "web" / "package"
ZOO = HERE.parents[2] / "lmb_quant" / "zoo"
PLAIN, RELAXED = ENGINES
SIZES = {name: [(9, 14)] for name in network_names()} | {
    "lmb_base_x4": [(1, 1), (1, 19), (33, 2), (47, 61)],
    "lmb_large_x4": [(17, 20)],
    "lmb_srresnet_x2": [(21, 13)],
    "lmb_srresnet_x3": [(13, 22)],
    # at 9 x 14 a rounding turns a bit of these, which moves more than what is allowed below
    "lmb_best_x4": [(13, 22)],
    "lmb_vdsr_x4": [(13, 22)],
}

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the module, is not installed")
needs_engine = pytest.mark.skipif(find()[0] is None, reason="the native engine, which is compared, is not built")


def node(*arguments, **environment):
    done = subprocess.run(
        ["node", *map(str, arguments)], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def flags_of(engine):
    """What Node needs to be told to run an engine."""
    if engine == PLAIN:
        return ()
    chosen = f"import {{ engineFile }} from '{MODULE}/engine.js'; process.exit(engineFile() === '{RELAXED}' ? 0 : 1)"
    for flags in ((), ("--experimental-wasm-relaxed-simd",)):  # Node 20 has it behind a flag
        done = subprocess.run(
            ["node", *flags, "--input-type=module", "-e", chosen], capture_output=True, check=False, text=True
        )
        if done.returncode == 0:
            return flags
    pytest.skip("this Node has no relaxed SIMD")


def smooth_picture(height, width):
    """Waves and noise: bits of both signs, and neighbours that are alike."""
    y, x = np.mgrid[:height, :width]
    waves = 128 + 90 * np.sin(x[..., None] / 3 + np.arange(3)) * np.cos(y[..., None] / 4)
    noise = np.random.default_rng(height * 1000 + width).normal(0, 12, (height, width, 3))
    return (waves + noise).clip(0, 255).astype(np.uint8)


def upscaled(engine, folder, pictures):
    """What WebAssembly makes of (network, picture)."""
    jobs = []
    for i, (name, image) in enumerate(pictures):
        height, width, channels = image.shape
        opaque = np.full((height, width, 4 - channels), 255, np.uint8)
        (folder / f"{i}").write_bytes(np.dstack([image, opaque]).tobytes())
        jobs.append(
            {
                "network": str(ZOO / f"{name}.safetensors"), "picture": str(folder / f"{i}"), "width": width,
                "height": height, "result": str(folder / f"{i}.large"),
            }
        )  # fmt: skip
    (folder / "jobs.json").write_text(json.dumps(jobs))
    node(*flags_of(engine), HERE / "pictures.mjs", MODULE, engine, folder / "jobs.json")
    return [np.frombuffer((folder / f"{i}.large").read_bytes(), np.uint8) for i in range(len(pictures))]


PICTURES = [(name, smooth_picture(*size)) for name, sizes in SIZES.items() for size in sizes]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of an engine, what it made of each picture."""
    return functools.cache(lambda engine: upscaled(engine, tmp_path_factory.mktemp("pictures"), PICTURES))


def differences(pictures, results):
    loaded = {name: lmb.from_pretrained(name) for name in {name for name, _ in pictures}}
    for (name, image), large in zip(pictures, results, strict=True):
        expected = lmb.upscale(loaded[name], image).astype(int)
        found = large.reshape(*expected.shape[:2], 4)
        assert (found[..., expected.shape[2] :] == 255).all()
        yield np.abs(found[..., : expected.shape[2]] - expected)


@needs_node
@needs_engine
def test_pixels_equal_those_of_the_portable_kernels(results, monkeypatch):
    made = results(PLAIN)
    monkeypatch.setenv("LMB_QUANT_ISA", "portable")  # as WebAssembly: no fused multiply-add
    assert [int(difference.max()) for difference in differences(PICTURES, made)] == [0] * len(made)


@needs_node
@needs_engine
@pytest.mark.skipif("fma" not in cpu_flags(), reason="relaxed SIMD has a fused multiply-add where the CPU has one")
def test_with_relaxed_simd_pixels_equal_those_of_this_machines_kernels(results):
    made = results(RELAXED)
    assert [int(difference.max()) for difference in differences(PICTURES, made)] == [0] * len(made)


@needs_node
@needs_engine
def test_pixels_are_those_of_this_machines_kernels_but_for_rounding(results):
    for difference in differences(
        PICTURES, results(PLAIN)
    ):  # a rounding may turn a bit, and a bit moves a pixel a little
        assert difference.max() <= 4
        assert (difference > 0).mean() < 0.002


def transparent(height, width, colour):
    """Hidden areas, half-transparent ones and opaque ones."""
    alpha = (smooth_picture(height, width)[..., :1].astype(int) * 3 - 250).clip(0, 255)
    alpha[height // 2 :, : width // 2] = 0
    return np.dstack([colour, alpha.astype(np.uint8)])


@needs_node
@needs_engine
def test_transparent_and_gray_pictures_are_those_of_python(tmp_path, monkeypatch):
    colour = smooth_picture(23, 31)
    gray = np.repeat(colour[..., :1], 3, 2)
    hidden = np.dstack([colour, np.zeros((23, 31, 1), np.uint8)])
    kinds = [transparent(23, 31, colour), transparent(23, 31, gray), gray, hidden]
    pictures = [(name, image) for image in kinds for name in ("lmb_small_x4", "lmb_srresnet_x3")]
    made = upscaled(PLAIN, tmp_path, pictures)
    monkeypatch.setenv("LMB_QUANT_ISA", "portable")
    for difference in differences(pictures, made):  # bicubic sums have another order: a level, where it is a tie
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


@needs_node
def test_the_module():
    node(
        *("--test", "--test-reporter=spec", HERE / "module.test.mjs"),
        LMB_MODULE=str(MODULE),
        LMB_NETWORK=str(ZOO / "lmb_small_x4.safetensors"),
    )
