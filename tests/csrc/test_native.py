# SPDX-License-Identifier: Apache-2.0
"""The C++ tests on the installed engine; with sanitizers and other machines' instructions: CONTRIBUTING.md."""

import shutil
import subprocess
from pathlib import Path

import pytest

from lmb_quant.ops._library import find

ROOT = Path(__file__).parents[2]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("cmake"), reason="no cmake")
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler")
def test_the_engine_passes_its_own_tests(tmp_path, record_property):
    library, reason = find()
    if library is None:
        pytest.skip(reason)
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    run("cmake", "-S", ROOT, "-B", tmp_path, *generator, f"-DLMB_QUANT_LIBRARY={library.path}",
        "-DLMB_QUANT_FUZZ_CASES=150")  # fmt: skip
    run("cmake", "--build", tmp_path)
    # a test that hangs is ended by ctest: ending ctest alone would leave it running, its output open
    output = run("ctest", "--test-dir", tmp_path, "--verbose", "--no-tests=error", "--timeout", 240)
    record_property("engine", [line for line in output.splitlines() if " checks, " in line])
