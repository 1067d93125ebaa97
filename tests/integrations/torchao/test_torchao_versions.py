# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/_host.py: loaded lazily and quietly, and these tests on the oldest torchao allowed.

To run the latter, with X the lower bound in pyproject.toml:
``.venv/bin/python -m pip install --no-deps --target .venv/torchao-X torchao==X``.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torchao
from helpers import run_python

ROOT = Path(__file__).parents[3]
OLDEST = re.search(r'"torchao>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1)
FOLDER = next(Path(sys.prefix).glob(f"torchao-{OLDEST}*"), Path(sys.prefix, f"torchao-{OLDEST}"))


def test_torchao_is_loaded_lazily_and_quietly():
    code = """
import logging, sys
import lmb_quant
assert "torchao" not in sys.modules
import lmb_quant.integrations.torchao
assert "torchao" in sys.modules
assert not logging.getLogger("torchao").filters
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_torchao_the_error_says_how_to_install_it(tmp_path):
    (tmp_path / "torchao.py").write_text("raise ImportError('No module named torchao')")
    code = """
try:
    import lmb_quant.integrations.torchao
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert re.match(r"MissingTorchAOError .*pip install 'lmb-quant\[torchao\]'", run_python(code, path=[tmp_path]))


@pytest.mark.skipif("LMB_QUANT_TORCHAO" not in os.environ, reason="is not the run with the oldest")
def test_this_is_the_oldest_torchao():
    assert torchao.__version__.startswith(os.environ["LMB_QUANT_TORCHAO"])


@pytest.mark.skipif("LMB_QUANT_TORCHAO" in os.environ, reason="is that run")
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"pip install --no-deps --target {FOLDER} torchao=={OLDEST}")
def test_the_oldest_torchao():
    env = {**os.environ, "PYTHONPATH": str(FOLDER), "LMB_QUANT_TORCHAO": OLDEST}
    quiet = ("-W", "ignore:invalid escape sequence")  # torchao 0.16's own, where it is not compiled yet
    others = ("-k", "not without_torchao")  # these are the same with any
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *quiet, *others, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\d\d\d passed, 2 skipped", done.stdout), "all but this test and those of PT2E were to run"
