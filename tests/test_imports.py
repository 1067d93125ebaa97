# SPDX-License-Identifier: Apache-2.0
"""What `import lmb_quant` may load, in a fresh interpreter."""

import pytest
from helpers import run_python

from lmb_quant.zoo import DEFAULT

HEAVY = (
    "torchao",
    "timm",
    "basicsr",
    "spandrel",
    "av",
    "torchvision",
    "scipy",
    "cv2",
    "skimage",
    "matplotlib",
    "triton",
    "tensorboard",
)


def test_import_loads_no_host_and_starts_no_compiler(record_property):
    output = run_python(
        f"""
import subprocess, sys, time
def refuse(*args, **kwargs):
    raise AssertionError(f"a process was started: {{args}}")
import torch
before = set(sys.modules)
subprocess.Popen.__init__ = refuse
start = time.perf_counter()
import lmb_quant
seconds = time.perf_counter() - start
loaded = sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({HEAVY!r}))
print(f"{{seconds:.2f}} s beyond torch; heavy: {{loaded}}")
assert "torch._inductor" not in set(sys.modules) - before
"""
    )
    record_property("import", output.strip())  # the time is reported (--junit-xml), not asserted
    assert "heavy: []" in output


def test_the_commands_help_loads_no_torch():
    output = run_python(
        """
import sys
from lmb_quant import cli
sys.argv = ["lmb-quant", "upscale", "--help"]
try:
    cli.main()
except SystemExit:
    pass
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "numpy", "PIL", "yaml"}))
"""
    )
    assert output.splitlines()[-1] == "[]"
    assert DEFAULT in output


def test_no_module_takes_the_place_of_a_public_name():
    run_python(
        """
import importlib, pkgutil, types
import lmb_quant as lmb
modules = {module.name for module in pkgutil.iter_modules(lmb.__path__)}
assert not modules & set(lmb._PLACES), modules & set(lmb._PLACES)
for name in lmb._PLACES:
    assert name in dir(lmb)
    assert not isinstance(getattr(lmb, name), types.ModuleType), name
from lmb_quant import *
"""
    )


def test_recipe_module_itself_imports_no_torch():
    run_python(
        """
import ast, importlib.util, pathlib
spec = importlib.util.find_spec("lmb_quant")
for name in ("recipe.py", "errors.py"):
    tree = ast.parse((pathlib.Path(spec.origin).parent / name).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.split(".")[0] == "torch" for name in names), (name, names)
"""
    )


def test_public_names():
    run_python(
        """
import lmb_quant as lmb
for name in ("Recipe", "plan", "binarize", "summary", "convert", "save", "load"):
    assert hasattr(lmb, name), name
for name in ("LMBError", "RecipeError", "__version__"):
    assert hasattr(lmb, name), name
"""
    )


@pytest.mark.parametrize("name", ["lmb_large_x4", "lmb_srresnet_x4"])
def test_the_first_packed_layer_waits_for_no_compiler(name):
    run_python(
        f"""
import sys
import lmb_quant as lmb
from lmb_quant.ops.startup import spare_compiler
from lmb_quant.upscaling import Upscaler
net = lmb.from_pretrained("{name}")
spare_compiler()
import torch
assert Upscaler(net)(torch.rand(3, 8, 8)).shape == (3, 32, 32)
assert "torch._dynamo" not in sys.modules
"""
    )
