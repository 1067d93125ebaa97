# SPDX-License-Identifier: Apache-2.0
"""The engine in WebAssembly, by Node: the native engine's pixels, and the module's behaviour."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lmb_quant as lmb
from lmb_quant.ops._library import find

HERE = Path(__file__).parent
MODULE = HERE.parents[2] / "integrations" / "web" / "package"
ZOO = HERE.parents[2] / "lmb_quant" / "zoo"
SIZES = {
    "lmb_base_x4": [(1, 1), (1, 19), (33, 2), (47, 61)],
    "lmb_large_x4": [(17, 20)],
    "lmb_srresnet_x2": [(21, 13)],
    "lmb_srresnet_x3": [(13, 22)],
    "lmb_vdsr_x3": [(9, 14)],
    "e2fif_srresnet_x4": [(12, 15)],
    "bbcu_srresnet_x4": [(15, 11)],
}

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the module, is not installed")
needs_engine = pytest.mark.skipif(find()[0] is None, reason="the native engine, which is compared, is not built")


def node(*arguments, **environment):
    done = subprocess.run(
        ["node", *map(str, arguments)], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def smooth_picture(height, width):
    """Waves and noise: bits of both signs, and neighbours that are alike."""
    y, x = np.mgrid[:height, :width]
    waves = 128 + 90 * np.sin(x[..., None] / 3 + np.arange(3)) * np.cos(y[..., None] / 4)
    noise = np.random.default_rng(height * 1000 + width).normal(0, 12, (height, width, 3))
    return (waves + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(network, picture, what WebAssembly made of it) of every size."""
    folder = tmp_path_factory.mktemp("pictures")
    jobs, pictures = [], []
    for name, sizes in SIZES.items():
        for height, width in sizes:
            image = smooth_picture(height, width)
            path = folder / f"{name}-{height}-{width}"
            path.write_bytes(np.dstack([image, np.full((height, width, 1), 255, np.uint8)]).tobytes())
            network = ZOO / f"{name}.safetensors"
            result = str(path) + ".large"
            jobs.append(
                {"network": str(network), "picture": str(path), "width": width, "height": height, "result": result}
            )
            pictures.append((name, image, Path(result)))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    node(HERE / "pictures.mjs", MODULE, folder / "jobs.json")
    return [(name, image, np.frombuffer(path.read_bytes(), np.uint8)) for name, image, path in pictures]


def differences(results):
    loaded = {name: lmb.from_pretrained(name) for name in SIZES}
    for name, image, large in results:
        expected = lmb.upscale(loaded[name], image).astype(int)
        found = large.reshape(*expected.shape[:2], 4)
        assert (found[..., 3] == 255).all()
        yield np.abs(found[..., :3] - expected)


@needs_node
@needs_engine
def test_pixels_equal_those_of_the_portable_kernels(results, monkeypatch):
    monkeypatch.setenv("LMB_QUANT_ISA", "portable")  # as WebAssembly: no fused multiply-add
    assert [int(difference.max()) for difference in differences(results)] == [0] * len(results)


@needs_node
@needs_engine
def test_pixels_are_those_of_this_machines_kernels_but_for_rounding(results):
    for difference in differences(results):  # a rounding may turn a bit, and a bit moves a pixel by a few levels
        assert difference.max() <= 4
        assert (difference > 0).mean() < 0.002


@needs_node
def test_the_module():
    node(
        *("--test", "--test-reporter=spec", HERE / "module.test.mjs"),
        LMB_MODULE=str(MODULE),
        LMB_NETWORK=str(ZOO / "lmb_small_x4.safetensors"),
    )
