# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/binarizers: what every registered binariser must keep; a new one is covered by being registered."""

import copy
import io
import shutil
from pathlib import Path

import pytest
import torch
from helpers import assert_pm1, conv, recipe, run_python

import lmb_quant
from lmb_quant import LMBError
from lmb_quant.binarizers import (
    ActivationBinarizer,
    Golden,
    WeightBinarizer,
    activation_binarizer,
    activation_binarizers,
    make_activation,
    make_weight,
    weight_binarizer,
    weight_binarizers,
)
from lmb_quant.parts import options_model

ACTIVATIONS, WEIGHTS = activation_binarizers(), weight_binarizers()
EVERY = [
    *(pytest.param(make_activation, name, cls, id=f"activation-{name}") for name, cls in ACTIVATIONS.items()),
    *(pytest.param(make_weight, name, cls, id=f"weight-{name}") for name, cls in WEIGHTS.items()),
]
every = pytest.mark.parametrize(("make", "name", "cls"), EVERY)


def example(make, dtype=torch.float32):
    """Values with zeros among them, of the shape that the binariser takes for a convolution 5 -> 7."""
    x = torch.randn((2, 5, 6, 7) if make is make_activation else (7, 5, 3, 3))
    return x.masked_fill(torch.rand_like(x) < 0.1, 0).to(dtype)


def test_registry_holds_what_the_recipes_need():
    assert {"local_mean", "sign", "rsign"} <= set(ACTIVATIONS)
    assert "sign" in WEIGHTS
    with pytest.raises(TypeError):
        ACTIVATIONS["mine"] = ActivationBinarizer


@every
def test_golden_numbers(make, name, cls):
    golden = cls.golden
    assert len({len(golden.x), len(golden.y), len(golden.grad_y), len(golden.grad_x)}) == 1
    channels, shape = (1, (1, 1, 1, -1)) if make is make_activation else (len(golden.x), (1, -1, 1, 1))
    binarizer = make(conv(channels, 1, 1), name, golden.options)
    x = torch.tensor(golden.x).view(shape).requires_grad_()
    y = binarizer(x)
    y.backward(torch.tensor(golden.grad_y).view(shape))
    torch.testing.assert_close(y.detach().flatten(), torch.tensor(golden.y), rtol=0, atol=0)
    torch.testing.assert_close(x.grad.flatten(), torch.tensor(golden.grad_x), rtol=1e-6, atol=1e-6)


@every
def test_registration_is_complete(make, name, cls):
    assert cls.recipe_name == name
    assert cls.source
    assert cls.__doc__
    assert issubclass(cls, ActivationBinarizer if make is make_activation else WeightBinarizer)


@every
def test_output_is_exactly_pm1_where_claimed_in_every_dtype(make, name, cls, dtype):
    x = example(make, dtype).requires_grad_()
    binarizer = make(conv(5, 7).to(dtype), name, {}).to(dtype)
    y = binarizer(x)
    if cls.is_pm1:
        assert_pm1(y)
    else:  # two values a layer, or a filter; several bases make more
        for part in [y] if make is make_activation else y:
            assert 2 <= len(part.unique()) <= 2**binarizer.bases
    assert y.shape == x.shape
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype
    assert bool(x.grad.isfinite().all())


@every
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e2, 1e4], ids=str)
def test_gradients_are_finite_up_to_1e4(make, name, cls, size):
    x = (example(make) * size).requires_grad_()
    binarizer = make(conv(5, 7), name, {})
    binarizer(x).backward(torch.randn_like(x))
    for tensor in (x, *binarizer.parameters()):
        assert bool(tensor.grad.isfinite().all())


@every
@pytest.mark.parametrize("value", [0.0, 0.3], ids=["zeros", "constant"])
def test_constant_input_gives_finite_gradients_and_ties_are_plus_one(make, name, cls, value):
    x = torch.full_like(example(make), value).requires_grad_()
    binarizer = make(conv(5, 7), name, {})
    y = binarizer(x)
    if cls.is_pm1 if make is make_weight else binarizer.packed_threshold() is not None:
        assert bool((y == 1).all())
    y.sum().backward()
    assert bool(x.grad.isfinite().all())


@every
def test_only_pm1_has_a_packed_form(make, name, cls):
    if make is make_activation and not cls.is_pm1:
        assert make(conv(5, 7), name, {}).packed_threshold() is None


@every
def test_layouts_give_the_same_bits(make, name, cls):
    binarizer, x = make(conv(5, 7), name, {}), example(make)
    expected = binarizer(x)
    assert torch.equal(binarizer(x.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(binarizer(x.transpose(2, 3).contiguous().transpose(2, 3)), expected)


@every
def test_state_round_trips(make, name, cls):
    first, second = make(conv(5, 7), name, {}), make(conv(5, 7), name, {})
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict(), strict=True)
    buffer, x = io.BytesIO(), example(make)
    torch.save(first, buffer)
    buffer.seek(0)
    for other in (second, copy.deepcopy(first), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x), first(x))
        assert other.get_options() == first.get_options()


@every
def test_options_round_trip(make, name, cls):
    first = make(conv(5, 7), name, {})
    options = first.get_options()
    assert set(options) <= set(options_model(cls).model_fields)
    again = make(conv(5, 7), name, options)
    assert again.get_options() == options
    for key, value in options.items():
        assert f"{key}={value!r}" in repr(first)


@every
def test_unknown_option_is_an_error(make, name, cls):
    what = "activation" if make is make_activation else "weight"
    has_surrogate = "surrogate" in options_model(cls).model_fields
    hint = r"Did you mean 'surrogate'\?" if has_surrogate else "Allowed: "
    with pytest.raises(LMBError, match=rf"unknown option of {what} binarizer '{name}': 'surogate'\. {hint}"):
        make(conv(5, 7), name, {"surogate": "ste"})
    if not has_surrogate:
        return
    with pytest.raises(LMBError, match=r"unknown surrogate 'stte'\. Did you mean 'ste'\?"):
        make(conv(5, 7), name, {"surrogate": "stte"})
    with pytest.raises(LMBError, match=r"surrogate: 3 is not allowed"):
        make(conv(5, 7), name, {"surrogate": 3})


@pytest.mark.parametrize(("make", "what"), [(make_activation, "activation"), (make_weight, "weight")])
def test_unknown_binarizer_names_the_nearest(make, what):
    with pytest.raises(LMBError, match=rf"unknown {what} binarizer 'sing'\. Did you mean 'sign'\? Allowed: "):
        make(conv(1, 1), "sing", {})


def test_taken_names_are_refused():
    golden = Golden((1.0,), (1.0,), (1.0,), (1.0,))
    for register, base, owner in (
        (activation_binarizer, ActivationBinarizer, "Sign"),
        (weight_binarizer, WeightBinarizer, "WeightSign"),
    ):
        with pytest.raises(LMBError, match=rf"binarizer name 'sign' is already taken by {owner}"):
            register("sign", source="x", golden=golden)(type("Mine", (base,), {}))


def test_an_option_without_an_annotation_is_refused():
    class Mine(ActivationBinarizer):
        def __init__(self, *, strength=3):
            super().__init__()

    golden = Golden((1.0,), (1.0,), (1.0,), (1.0,))
    with pytest.raises(LMBError, match=r"'unannotated': the option 'strength' has no annotation"):
        activation_binarizer("unannotated", source="x", golden=golden)(Mine)
    assert "unannotated" not in activation_binarizers()


NEW_FILE = '''
from lmb_quant.binarizers._base import ActivationBinarizer, Golden
from lmb_quant.binarizers._registry import activation_binarizer
from lmb_quant.ops import surrogate_sign

@activation_binarizer("always_up", source="a test", golden=Golden((1.0,), (1.0,), (1.0,), (2.0,)))
class AlwaysUp(ActivationBinarizer):
    """y = 1; dy/dx := g(0)."""

    def __init__(self, *, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x):
        return surrogate_sign(x * 0 + 1e-9, "approx_sign")

    def get_options(self):
        return {"shift": self.shift}

from lmb_quant.binarizers._base import WeightBinarizer
from lmb_quant.binarizers._registry import weight_binarizer
from lmb_quant.ops import register_weight_scale

@register_weight_scale("largest")
def largest(weight):
    """max abs(W) of each filter."""
    return weight.abs().amax(dim=(1, 2, 3))

@weight_binarizer("all_up", source="a test", golden=Golden((1.0,), (1.0,), (1.0,), (2.0,)))
class AllUp(WeightBinarizer):
    """y = 1; dy/dw := g(0)."""

    def forward(self, x):
        return surrogate_sign(x * 0 + 1e-9, "approx_sign")
'''


def test_a_new_binarizer_is_one_new_file(tmp_path):
    package = Path(lmb_quant.__file__).parent
    copied = tmp_path / "lmb_quant"
    ignore = shutil.ignore_patterns("__pycache__", "integrations", "csrc", "*.so")
    shutil.copytree(package, copied, ignore=ignore)
    if not (copied / "recipes").exists():
        shutil.copytree(package.parent / "recipes", copied / "recipes")
    (copied / "binarizers" / "always_up.py").write_text(NEW_FILE)
    changed = recipe(
        activation={"binarizer": "always_up", "shift": 0.5}, weight={"binarizer": "all_up", "scale": "largest"}
    )
    output = run_python(
        f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in type(finder).__name__
                    and "ScikitBuild" not in type(finder).__name__]
import torch, lmb_quant as lmb
from torch import nn
assert lmb.__file__.startswith({str(tmp_path)!r}), lmb.__file__
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 3, 3))
net = lmb.binarize(net, {changed!r})
print(type(net[1].binarize_input).__name__, net[1].config.activation_options)
net[1].weight.data.fill_(0.5), net[1].bias.data.zero_()
print(type(net[1].binarize_weight).__name__, float(net[1](torch.ones(1, 4, 3, 3)).max()) >= 0.5 * 4 * 9)
try:
    lmb.binarize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 3, 3)),
                 {recipe(activation={"binarizer": "always_up", "shfit": 1.0})!r})
except lmb.RecipeError as error:
    print(error)
"""
    )
    assert "AlwaysUp {'shift': 0.5}" in output
    assert "AllUp True" in output
    assert "unknown option of activation binarizer 'always_up': 'shfit'. Did you mean 'shift'?" in output
