# SPDX-License-Identifier: Apache-2.0
"""The engine that ./dev wheel compiles for aarch64: the example program with it, under qemu.

./dev wheel runs it, and says where the installed engine is (LMB_QUANT_AARCH64) and which Zig compiles (ZIG).
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lmb_quant as lmb
from lmb_quant.zoo import network_file

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "lmb_quant" / "csrc" / "example" / "upscale_ppm.c"
SYSTEM = Path("/usr/aarch64-linux-gnu")  # Debian's libc6-arm64-cross
ENGINE, ZIG, QEMU = os.environ.get("LMB_QUANT_AARCH64"), os.environ.get("ZIG"), shutil.which("qemu-aarch64")
pytestmark = [
    pytest.mark.skipif(not (ENGINE and ZIG), reason="./dev wheel has not made the engine: LMB_QUANT_AARCH64, ZIG"),
    pytest.mark.skipif(QEMU is None or not SYSTEM.is_dir(), reason="no qemu-aarch64, or no C library for it"),
]


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("name", ["lmb_small_x4", "lmb_large_x4"])
def test_the_example_upscales_as_python_does(tmp_path, name):
    library, program = Path(ENGINE).resolve(), tmp_path / "upscale_ppm"
    target = ("-target", "aarch64-linux-gnu.2.17", "-std=c99", "-O2")
    run(ZIG, "cc", *target, EXAMPLE, f"-I{library}/include", f"-L{library}/lib", "-llmb_quant", "-o", program)
    coarse = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    image = Image.fromarray(coarse).resize((33, 21), Image.Resampling.BICUBIC)
    image.save(tmp_path / "small.ppm")
    with network_file(name) as path:
        run(
            *(QEMU, "-L", SYSTEM, "-E", f"LD_LIBRARY_PATH={library}/lib"),
            *(program, path, tmp_path / "small.ppm", tmp_path / "large.ppm"),
        )
    found = np.asarray(Image.open(tmp_path / "large.ppm")).astype(int)
    difference = np.abs(found - lmb.upscale(lmb.from_pretrained(name), np.asarray(image)))
    assert difference.max() <= 4  # where a rounding turned a bit
    assert (difference > 0).mean() < 0.002
