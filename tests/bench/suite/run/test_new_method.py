# SPDX-License-Identifier: Apache-2.0
"""A method that someone adds as one binariser file and one recipe is in the suite, and in no list."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import lmb_quant
from lmb_quant import Recipe, binarizers, integrations

ROOT = Path(__file__).parents[4]
# The copy of the package takes the place of an editable install, in the process and in those that it starts.
SITECUSTOMIZE = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]"


def linked(target, *sources):
    """A folder with links to all that is in other folders."""
    target.mkdir(parents=True)
    for source in sources:
        for path in source.iterdir():
            if path.name != "__pycache__":
                (target / path.name).symlink_to(path)
    return target


@pytest.fixture
def package(tmp_path):
    """The installed layout, in links, so that files can be added."""
    package = linked(tmp_path / "site" / "lmb_quant", Path(lmb_quant.__file__).parent)
    for name, sources in {
        "binarizers": [Path(binarizers.__file__).parent],
        "integrations": [Path(integrations.__file__).parent],
        "recipes": [ROOT / "recipes"],
    }.items():
        (package / name).unlink(missing_ok=True)
        linked(package / name, *sources)
    (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return package


@pytest.mark.train
def test_a_new_binariser_and_a_new_recipe_are_all_it_takes(package, suite, command, tmp_path):
    page = (ROOT / "docs" / "adding_a_binarizer.md").read_text(encoding="utf-8")
    (package / "binarizers" / "shifted_sign.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    recipe = Recipe.load("sign").to_dict() | {"metadata": {"name": "shifted-sign"}}
    recipe["scheme"]["activation"] = {"binarizer": "shifted_sign", "shift": 0.5}
    (package / "recipes" / "shifted-sign.yaml").write_text(json.dumps(recipe))
    suite["methods"] = "all"
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        command(suite, "--only", "shifted*"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/1] net/shifted-sign/x2/seed0: c " in done.stdout
    (path,) = (tmp_path / "out" / "cells").iterdir()
    result = json.loads(path.read_text())
    assert set(result["cell"]["binarizers"]) == {"activation shifted_sign", "weight sign"}
    assert result["figures"]["binary_macs"] > 0
    assert result["figures"]["bytes_note"] == ""  # it says its comparison as data, so it packs
