# SPDX-License-Identifier: Apache-2.0
"""Small networks, recipes with changes, and words for what is asserted again and again."""

import copy
import itertools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lmb_quant import Recipe, cli
from lmb_quant.modules import BinaryConv2d, LayerConfig

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), reason="TorchInductor needs a C++ compiler"
)


def conv(inputs, outputs, kernel=3, **options):
    """A convolution that keeps height and width unless told otherwise."""
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})


def chain(*channels):
    """Convolutions with a ReLU between them: layers 0, 2, 4, ..."""
    layers = []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [conv(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def small_net():
    """Four convolutions, 3 -> 8 -> 8 -> 8 -> 3: under `lmb` layers 2 and 4 become binary."""
    return chain(3, 8, 8, 8, 3)


def recipe(name="lmb", *, activation=None, weight=None, unit=None, rescale=None, **changes):
    """A shipped recipe as a dict, with changes; activation, weight, unit and rescale are merged into the scheme."""
    data = copy.deepcopy(Recipe.load(name).to_dict())
    for key, change in (("activation", activation), ("weight", weight), ("unit", unit)):
        if change:
            if "binarizer" in change:
                data["scheme"][key] = {}
            data["scheme"][key] |= change
    if rescale:
        data["scheme"]["rescale"] = rescale
    return data | changes


def config(**changes):
    """A layer's configuration: local mean 3 and plain signs, nothing around them."""
    plain = {"activation": "local_mean", "activation_options": {}, "weight": "sign", "weight_options": {}}
    return LayerConfig(**(plain | changes))


def binary(net):
    """Names of the binary convolutions."""
    return [name for name, module in net.named_modules() if isinstance(module, BinaryConv2d)]


def rules(planned):
    """Layer name -> the rule that decided."""
    return {layer.name: layer.rule for layer in planned.layers}


def assert_pm1(x):
    assert bool(((x == 1) | (x == -1)).all()), "values other than -1 and +1"


def assert_close(actual, expected, tolerance=1e-5):
    """Compares a tensor with a NumPy array, relative to the array's largest value."""
    actual = actual.detach().double().cpu().numpy()
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max()))


def state_of(net):
    """A copy of parameters and buffers."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def assert_same_state(net, before):
    after = net.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name


def run_command(monkeypatch, capsys, *arguments):
    """Runs lmb-quant in this process; returns exit code, standard output and standard error, its lines joined."""
    monkeypatch.setattr(sys, "argv", ["lmb-quant", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capsys.readouterr()
    return caught.value.code or 0, captured.out, " ".join(captured.err.split())


def run_python(code, *, path=()):
    """Runs code in a fresh interpreter; `path` goes before everything else. Returns its output."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def set_values(**values):
    """Writes numbers into parameters: `set_values(weight=(parameter, numbers))`."""
    with torch.no_grad():
        for parameter, numbers in values.values():
            parameter.copy_(torch.tensor(numbers).view_as(parameter))
