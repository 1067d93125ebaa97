# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/counting: counts against sums done by hand, and against published tables."""

import importlib.util

import pytest
import torch
from helpers import assert_same_state, chain, conv, recipe, small_net, state_of
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError


def layer(report, name):
    (found,) = [row for row in report.layers if row.name == name]
    return found


def test_hand_count_of_a_float_chain():
    report = lmb.summary(chain(3, 8, 5), (2, 3, 6, 7))
    # two images of 6 x 7, 3x3 kernels
    assert layer(report, "0").float_macs == 2 * 42 * 8 * 3 * 9
    assert layer(report, "2").float_macs == 2 * 42 * 5 * 8 * 9
    assert report.ops == report.float_ops == 2 * 42 * 9 * (24 + 40)
    assert report.params == report.float_params == 9 * (24 + 40)  # biases do not count
    assert report.bytes == report.float_bytes == 4 * (9 * (24 + 40) + 13)
    assert report.additions == 0


def test_hand_count_of_a_binary_chain():
    report = lmb.summary(lmb.binarize(small_net(), "lmb"), (1, 3, 6, 7))
    row = layer(report, "2")
    assert (row.kind, row.shape, row.output_size, row.bits) == ("BinaryConv2d", (8, 8, 3, 3), (1, 8, 6, 7), 1)
    assert (row.weights, row.float_macs, row.binary_macs) == (576, 0, 42 * 576)
    assert row.ops == 42 * 576 / 64
    assert row.bytes == 8 * 9 + 4 * (8 + 8 + 24)  # packed, scale, bias, rprelu
    assert row.float_bytes == 4 * (576 + 8)
    assert row.additions == 42 * 8 * 4
    assert report.ops == 42 * (216 + 216) + 2 * 42 * 576 / 64
    assert report.float_ops == 42 * (216 + 216 + 2 * 576)
    assert report.params == 216 + 216 + 2 * 576 / 32
    assert report.float_params == 216 + 216 + 2 * 576
    assert report.additions == 2 * 42 * 8 * 4
    assert [row.name for row in report.layers] == ["0", "2", "4", "6"]


@pytest.mark.parametrize(
    ("make", "size", "macs"),
    [
        (lambda: conv(4, 6, stride=2), (1, 4, 9, 9), 25 * 6 * 4 * 9),
        (lambda: conv(4, 6, groups=2), (1, 4, 8, 8), 64 * 6 * 2 * 9),
        (lambda: conv(4, 4, groups=4), (1, 4, 8, 8), 64 * 4 * 9),
        (lambda: conv(4, 6, 1), (3, 4, 5, 5), 3 * 25 * 24),
        (lambda: conv(4, 6, 3, padding=2, dilation=2), (1, 4, 8, 8), 64 * 24 * 9),
        (lambda: nn.Conv2d(4, 6, (1, 5)), (1, 4, 8, 8), 8 * 4 * 24 * 5),
        (lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), (1, 4, 5, 5), 25 * 24 * 16),
        (lambda: nn.Linear(7, 5), (2, 3, 7), 2 * 3 * 35),
        (lambda: nn.Conv1d(4, 6, 3), (1, 4, 10), 8 * 24 * 3),
        (lambda: nn.Conv3d(4, 6, 3), (1, 4, 5, 5, 5), 27 * 24 * 27),
    ],
    ids=["strided", "grouped", "depthwise", "1x1", "dilated", "1x5", "transposed", "linear", "1d", "3d"],
)
def test_macs_of_every_kind_of_layer(make, size, macs):
    assert lmb.summary(nn.Sequential(make()), size).float_ops == macs


@pytest.mark.parametrize(("window", "additions"), [(3, 4), (5, 8), ("global", 1)])
def test_additions_of_the_local_mean(window, additions):
    net = lmb.binarize(small_net(), recipe(activation={"window": window}))
    assert lmb.summary(net, (1, 3, 10, 10)).additions == 2 * 8 * 100 * additions
    assert lmb.summary(lmb.binarize(small_net(), "sign"), (1, 3, 10, 10)).additions == 0


def test_shared_layers_count_each_run_and_their_weights_once():
    shared = conv(4, 4)
    report = lmb.summary(nn.Sequential(shared, nn.ReLU(), shared), (1, 4, 5, 5))
    assert report.float_ops == 2 * 25 * 144
    assert report.float_params == 144


def test_layers_that_do_not_run_have_no_macs():
    class Half(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    report = lmb.summary(Half(conv(3, 4), conv(4, 4)), (1, 3, 5, 5))
    assert (layer(report, "1").float_macs, layer(report, "1").output_size, layer(report, "1").weights) == (0, (), 144)
    assert report.ops == 25 * 108


def test_root_binary_convolution():
    net = lmb.binarize(conv(4, 4), recipe(ignore=[]))
    report = lmb.summary(net, (1, 4, 8, 8))
    assert len(report.layers) == 1
    assert report.bytes == net.packed_bytes
    assert "(the model itself)" in str(report)


def test_other_parameters_count_as_bytes():
    report = lmb.summary(nn.Sequential(conv(3, 4, bias=False), nn.BatchNorm2d(4), nn.PReLU(4)), (1, 3, 5, 5))
    assert report.bytes == 4 * (108 + 8 + 4)
    assert report.params == 108


def test_summary_changes_nothing():
    net = small_net().train()
    net.add_module("norm", nn.BatchNorm2d(3))
    handle = net[0].register_forward_hook(lambda *_: pytest.fail("a hook ran"))
    before, rng = state_of(net), torch.get_rng_state()
    lmb.summary(net, (1, 3, 8, 8))
    assert_same_state(net, before)
    assert net.training
    assert handle.id in net[0]._forward_hooks
    assert torch.equal(torch.get_rng_state(), rng)


class Picky(nn.Module):
    def __init__(self, problem):
        super().__init__()
        self.a, self.problem = conv(3, 3), problem

    def forward(self, x):
        if x.shape[-1] != 17:
            raise self.problem
        return self.a(x)


@pytest.mark.parametrize(
    "problem",
    [RuntimeError("no"), ValueError("no"), AssertionError("no"), TypeError("no"), KeyError("no")],
    ids=lambda e: type(e).__name__,
)
def test_models_that_do_not_run_on_the_size(problem):
    with pytest.raises(
        LMBError,
        match=rf"input_size: the model does not run on an input of size \(1, 3, 8, 8\): {type(problem).__name__}",
    ):
        lmb.summary(Picky(problem), (1, 3, 8, 8))
    assert lmb.summary(Picky(problem), (1, 3, 8, 17)).ops


@pytest.mark.parametrize("size", [8, (1, 3, 0, 8), (1, 3, 8.0, 8), "1388"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(LMBError, match=r"input_size: .* is not allowed"):
        lmb.summary(conv(3, 3), size)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="model: 'x' is not allowed"):
        lmb.summary("x")


def test_wrappers_are_left_out():
    net = conv(3, 3)
    assert lmb.summary(nn.DataParallel(net), (1, 3, 8, 8)) == lmb.summary(net, (1, 3, 8, 8))


def test_models_that_need_values_run_for_real():
    class Values(nn.Sequential):
        def forward(self, x):
            assert x.sum().item() == 0
            return super().forward(torch.from_numpy(x.numpy()))

    assert lmb.summary(Values(conv(3, 4)), (1, 3, 5, 5)).ops == 25 * 108


def test_train_that_returns_nothing():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)

    assert lmb.summary(Frozen(conv(3, 4)), (1, 3, 5, 5)).ops == 25 * 108


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    assert lmb.summary(small_net().to(dtype), (1, 3, 8, 8)).ops == lmb.summary(small_net(), (1, 3, 8, 8)).ops


def test_empty_model():
    report = lmb.summary(nn.Sequential(), (1, 3, 4, 4))
    assert (report.ops, report.bytes, report.params) == (0, 0, 0)
    assert "total" in str(report)


def test_table_has_every_layer_and_the_totals():
    text = str(lmb.summary(lmb.binarize(small_net(), "lmb"), (1, 3, 180, 320)))
    for word in ("BinaryConv2d", "8x8x3x3", "additions", "total", "against float32", "fewer"):
        assert word in text
    assert "input 1x3x180x320; OPs = float MACs + binary MACs / 64" in text


BBCU_FORMS = {
    "float": None,
    "L": ["@first", "@last", "@upsample", "conv_hr"],  # all of the tail is float
    "M": ["@first", "@last"],
}


@pytest.mark.parametrize(
    ("upscale", "form", "giga", "kilo"),
    [
        (2, "float", 85.432, 1367.4),
        (2, "L", 18.546, 224.6),
        (2, "M", 1.825, 46.1),
        (4, "float", 146.081, 1514.9),
        (4, "L", 79.195, 372.1),
        (4, "M", 3.948, 50.7),
    ],
)
def test_published_figures_of_bbcu(upscale, form, giga, kilo):
    """BBCU, arXiv 2210.00405, table 1 by its rule: OPs in G and parameters in K of SRResNet and of its binary forms."""
    if importlib.util.find_spec("basicsr") is None:
        pytest.skip("BasicSR is not installed")
    import lmb_quant.integrations.basicsr  # noqa: F401 - repairs BasicSR, then it can be imported

    from basicsr.archs.srresnet_arch import MSRResNet

    net = MSRResNet(num_feat=64, num_block=16, upscale=upscale)
    whole = lmb.summary(net, (1, 3, 180, 320)).ops
    if BBCU_FORMS[form] is not None:
        lmb.binarize(net, recipe("bbcu", ignore=BBCU_FORMS[form]))
    report = lmb.summary(net, (1, 3, 180, 320))
    assert report.ops / 1e9 == pytest.approx(giga, abs=5e-4)
    assert report.params / 1e3 == pytest.approx(kilo, abs=0.05)
    assert report.float_ops == whole


# Method -> figures of an 8 x 8 x 3 x 3 layer on P = 6 x 7 pixels: binary MACs / (576 P), float MACs / P, additions / P,
# parameters.
COSTS = {
    "sign": (1, 0, 0, 576 / 32),
    "lmb": (1, 0, 8 * 4, 576 / 32),
    # a norm that K reads, K times the output; the mean of 8 maps, a 3 x 3 box by rows and columns
    "xnor": (1, 8 + 8, 8 + 4, 576 / 32),
    # 9 convolutions, 8 of them added with a scale; 3 bits a weight
    "abcnet": (9, 8 * 8, 0, 3 * 576 / 32),
    # a mean and a running sum, a product
    "bam": (1, 8, 2 * 8, 576 / 32),
    # 16 filters of 9
    "lab": (1, 16 * 9, 0, 576 / 32 + 16 * 9),
    # 1 x 1 to one map, two factors an output; a mean and a shift; the perceptron 8 -> 16 -> 16, once
    "ebsr": (1, 8 + 2 * 8 + 384 / 42, 2 * 8, 576 / 32 + 8 + 384),
    # 1 x 1 to one map, two factors an output; a mean; the kernel of 5 along 8 channels, once
    "scales": (1, 8 + 2 * 8 + 40 / 42, 8, 576 / 32 + 8 + 5),
}


@pytest.mark.parametrize("name", COSTS)
def test_what_a_method_computes_beside_the_binary_convolution_is_counted(name):
    plain = lmb.summary(small_net(), (1, 3, 6, 7))
    report = lmb.summary(lmb.binarize(small_net(), name), (1, 3, 6, 7))
    row = layer(report, "2")
    binary, real, additions, params = COSTS[name]
    assert row.binary_macs == binary * 42 * 576
    assert row.float_macs == pytest.approx(42 * real, abs=1e-6)
    assert row.additions == 42 * additions
    assert report.params == 216 + 216 + 2 * params
    assert report.ops == pytest.approx(42 * (216 + 216) + 2 * (42 * real + binary * 42 * 576 / 64))
    assert (report.float_ops, report.float_params) == (plain.ops, plain.params)
    assert [layer.name for layer in report.layers] == ["0", "2", "4", "6"]


@pytest.mark.parametrize("recipe", ["lmb", "lmb-spatial"])
def test_a_packed_network_counts_as_the_training_form_and_shows_its_kernels(recipe):
    net = lmb.binarize(small_net(), recipe)
    before, after = (lmb.summary(form, (1, 3, 6, 7)) for form in (net, lmb.convert(net)))
    for name in ("ops", "float_ops", "params", "float_params", "bytes", "float_bytes", "additions"):
        assert getattr(before, name) == getattr(after, name), name
    row = layer(after, "2")
    assert (row.kind, row.shape, row.output_size, row.bits) == ("PackedBinaryConv2d", (8, 8, 3, 3), (1, 8, 6, 7), 1)
    assert row.kernel in str(after)
    assert row.kernel
    assert not layer(after, "0").kernel
