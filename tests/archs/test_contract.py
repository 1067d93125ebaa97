# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/archs: what every registered architecture must keep; a new one is covered by being registered."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import ARCHITECTURES
from lmb_quant.cli import app
from lmb_quant.modules import binary_convs, packed_convs

every = pytest.mark.parametrize("known", ARCHITECTURES.values(), ids=ARCHITECTURES)


def small(known, **options):
    return known.make(**({known.count: 2, "num_feat": 8, "upscale": 2} | options))


def drawn(net):
    """The last layer starts at zero: nothing would reach the body, or come from it."""
    for parameter in net.parameters():
        if parameter.ndim == 4 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return net


@every
def test_it_takes_the_common_arguments_and_stands_in_the_help(known):
    parameters = inspect.signature(known.make).parameters
    assert set(parameters) >= {"num_in_ch", "num_out_ch", "num_feat", known.count, "upscale", "recipe", *known.words}
    assert all(parameter.default is not parameter.empty for parameter in parameters.values())
    net = small(known, recipe=None)
    assert set(net.arch_args) == set(parameters) - {"recipe"}
    assert net.arch_args | {known.count: 2, "num_feat": 8, "upscale": 2} == net.arch_args
    text = " ".join(CliRunner().invoke(app, ["bench", "speed", "--help"], env={"COLUMNS": "200"}).output.split())
    assert known.short_name in text
    assert f"{known.parts} ({known.default_count})" in text


@every
@pytest.mark.parametrize("name", [None, "lmb", "lmb-k5", "sign", "rsign"], ids=str)
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_size_and_gradients(known, upscale, name):
    net = drawn(small(known, upscale=upscale, recipe=name))
    y = net(torch.rand(2, 3, 7, 9))
    assert y.shape == (2, 3, 7 * upscale, 9 * upscale)
    y.square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key


@every
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_y_and_rgb(known, channels):
    net = small(known, num_in_ch=channels, num_out_ch=channels)
    assert net(torch.rand(1, channels, 6, 5)).shape == (1, channels, 12, 10)


@every
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (31, 17)], ids=str)
def test_any_image_size(known, size):
    assert small(known)(torch.rand(1, 3, *size)).shape == (1, 3, 2 * size[0], 2 * size[1])


@every
@pytest.mark.parametrize("name", [None, "lmb"], ids=str)
def test_starts_as_an_upscaled_image(known, name):
    x = torch.rand(1, 3, 8, 8)
    upscaled = [F.interpolate(x, scale_factor=2, mode=mode, align_corners=False) for mode in ("bilinear", "bicubic")]
    y = small(known, recipe=name)(x)
    assert any(torch.equal(y, image) for image in upscaled)


@every
def test_float_counterpart_has_the_same_keys_and_start(known):
    torch.manual_seed(1)
    float_net = small(known, recipe=None)
    torch.manual_seed(1)
    net = small(known, recipe="lmb")
    assert list(binary_convs(net))
    assert not list(binary_convs(float_net))
    assert set(float_net.state_dict()) < set(net.state_dict())
    for key, value in float_net.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    net.load_state_dict(float_net.state_dict(), strict=True)


@every
def test_packed_it_gives_equal_values_and_is_loaded_by_its_name(known, tmp_path):
    net, x = drawn(small(known)).eval(), torch.rand(1, 3, 9, 7)
    packed = lmb.convert(net)
    assert len(list(packed_convs(packed))) == len(list(binary_convs(net)))
    lmb.save(packed, tmp_path / "net.safetensors")
    loaded = lmb.load(tmp_path / "net.safetensors")
    assert type(loaded) is known.make
    with torch.no_grad():
        assert torch.equal(loaded(x), packed(x))
        # a value within rounding of its threshold may fall to the other side behind a float layer
        expected = net(x)
        assert ((packed(x) - expected).abs() > 1e-4 * expected.abs().max()).double().mean() < 0.02


BAD = {
    "upscale": ({"upscale": 5}, r"upscale: 5 is not allowed\. Allowed: (1, )?2, 3, 4"),
    "upscale-text": ({"upscale": "4"}, r"upscale: '4' is not allowed"),
    "feat": ({"num_feat": 0}, r"num_feat: 0 is not allowed\. Allowed: a whole number above 0"),
    "feat-float": ({"num_feat": 8.0}, r"num_feat: 8\.0 is not allowed"),
    "in": ({"num_in_ch": -1}, r"num_in_ch: -1 is not allowed"),
    "out": ({"num_out_ch": 1}, r"num_out_ch: 1 is not allowed\. Allowed: num_in_ch, 3"),
    "out-true": ({"num_in_ch": 1, "num_out_ch": True}, r"num_out_ch: True is not allowed"),
}


@every
@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(known, options, message):
    with pytest.raises(LMBError, match=message):
        small(known, **options)


@every
@pytest.mark.parametrize("count", [0, None])
def test_bad_counts(known, count):
    with pytest.raises(LMBError, match=rf"{known.count}: {count} is not allowed"):
        small(known, **{known.count: count})
