# SPDX-License-Identifier: Apache-2.0
"""The installed engine against the scalar C++ reference of test_kernels.cpp."""

import shutil
import subprocess
from pathlib import Path

import pytest

import lmb_quant
from lmb_quant.ops.binary_conv2d._library import find

HERE = Path(__file__).parent


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_every_instruction_set_of_this_machine_against_the_scalar_reference(tmp_path, record_property):
    library, reason = find()
    if library is None:
        pytest.skip(reason)
    program, include = tmp_path / "test_kernels", Path(lmb_quant.__file__).parent / "csrc" / "include"
    source = HERE / "test_kernels.cpp"
    options = [
        "-std=c++17",
        "-O1",
        "-ffp-contract=off",
        "-pthread",
        f"-I{include}",
        f"-Wl,-rpath,{library.path.parent}",
    ]
    subprocess.run(["g++", *options, str(source), str(library.path), "-o", str(program)], check=True, timeout=300)
    done = subprocess.run([program, "150"], capture_output=True, text=True, timeout=300)
    record_property("engine", done.stdout)
    assert done.returncode == 0, done.stdout
