# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/modules/engine_path.py, ops/binary_unit: training by the engine equals the plain form that defines it."""

import copy
import pickle

import pytest
import torch
from helpers import config, conv
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError, binarize, set_precision, summary
from lmb_quant.archs import LMBSRResNet
from lmb_quant.binarizers import activation_binarizers, weight_binarizers
from lmb_quant.modules import ACTIVATIONS, BinaryConv2d, binary_convs, engine_path
from lmb_quant.ops._library import find

pytestmark = pytest.mark.skipif(find()[0] is None, reason="the engine is not installed")

PACKED = ("lmb", "lmb-k5", "lmb-shift", "lmb-plus", "lmb-spatial", "lmb-global", "sign", "rsign", "bnn", "bireal",
          "irnet", "reactnet", "btm", "fda", "e2fif", "bbcu")  # fmt: skip
OTHERS = ("xnor", "dorefa", "abcnet", "adabin", "bam", "ebsr", "scales", "lab", "design")


def layer(inputs=8, outputs=8, kernel=3, *, geometry=None, **words):
    """A training form whose every parameter is random."""
    geometry = {"padding": kernel // 2} if geometry is None else geometry
    net = BinaryConv2d.from_float(nn.Conv2d(inputs, outputs, kernel, **geometry), config(**words))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    return net


def plain(net):
    """A copy that runs in plain PyTorch."""
    other = copy.deepcopy(net)
    for each in binary_convs(other):
        each.engine = False
    return other


def step(net, x, grad=None):
    """Output, and the gradients of the input and of every parameter."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = net(x)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)) if grad is None else grad
    y.backward(grad)
    gradients = {name: p.grad for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = None
    return y.detach(), {"input": x.grad, **gradients}, grad


def assert_same_step(net, x, noise=1e-6):
    assert all(each.trains_by == "engine" for each in binary_convs(net))
    y, gradients, grad = step(net, x)
    expected, reference, _ = step(plain(net), x)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)  # a batch norm amplifies what is rounding before it
    assert list(gradients) == list(reference)
    for name, value in reference.items():
        if value is None:
            assert gradients[name] is None
            continue
        assert gradients[name].shape == value.shape
        error = (gradients[name] - value).norm()
        assert error <= 1e-5 * value.norm() + noise * grad.norm(), (name, float(error), float(value.norm()))


@settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(data=st.data())
def test_steps_equal(data):
    """Without batch norms, which amplify rounding without limit: those are in the networks below."""
    draw = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    torch.manual_seed(draw(*range(50)))
    activation = draw("local_mean", "local_mean", "local_mean", "sign", "rsign")
    options = {"surrogate": draw("approx_sign", "ste", "identity", "triangle_half", "tanh", "ede")}
    if activation == "local_mean":
        options |= {
            "window": draw(1, 3, 5, 9, "global"), "shift": draw("none", "channel"), "gain": draw("none", "channel"),
            "detach_threshold": draw(False, False, True), "normalize": draw("none", "none", "map"),
        }  # fmt: skip
    groups = draw(1, 1, 1, 1, 2)
    inputs, outputs = draw(1, 3, 8, 13, 37) * groups, draw(1, 4, 8, 18, 37) * groups
    same = draw(True, True, False)
    kernel = draw(1, 3, 3, 3, 5)
    if same:
        outputs, geometry = inputs, {"groups": groups, "padding": kernel // 2}
    else:
        geometry = {"stride": draw(1, 1, 2), "padding": draw(0, 1, (1, 0)), "dilation": draw(1, 1, 2), "groups": groups}
        kernel = draw(1, 2, 3, (3, 1), (1, 3))
    factor = same and draw(False, True)
    net = layer(
        inputs, outputs, kernel, geometry={**geometry, "bias": draw(True, False)}, activation=activation,
        activation_options=options, skip=same and draw(True, False), act_on=draw("branch", "sum"),
        act=draw(*ACTIVATIONS),
        rescale="spatial" if factor else "none",
    )  # fmt: skip
    x = torch.randn(draw(1, 2, 3, 9), inputs, draw(1, 2, 5, 8) + 4 * (not same), draw(1, 3, 7, 37) + 4 * (not same))
    if draw(True, False):
        x = x.contiguous(memory_format=torch.channels_last)
    assert_same_step(net, x)


@pytest.mark.parametrize("name", activation_binarizers())
def test_every_activation_binarizer_trains_by_the_engine_as_by_its_forward(name):
    torch.manual_seed(0)
    net = layer(activation=name)
    if net.binarize_input.comparison() is None:
        assert net.trains_by.startswith("reference: ")
    else:
        assert_same_step(net, torch.randn(2, 8, 6, 7))


@pytest.mark.parametrize("name", weight_binarizers())
def test_every_weight_binarizer_trains_by_the_engine_as_by_its_forward(name):
    torch.manual_seed(0)
    net = layer(weight=name)
    if net.binarize_weight.is_pm1 and net.binarize_weight.bases == 1:
        assert_same_step(net, torch.randn(2, 8, 6, 7), noise=1e-5)  # bam's alpha has a sum that cancels to rounding
    else:
        assert net.trains_by == f"reference: weight binarizer {name!r}"


@pytest.mark.parametrize("recipe", PACKED)
def test_whole_networks_of_recipes_that_pack(recipe):
    torch.manual_seed(0)
    net = LMBSRResNet(num_feat=16, num_block=2, upscale=2, recipe=recipe)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    for each in binary_convs(net):  # a batch norm takes it away: its gradient is rounding
        each.bias.requires_grad_(isinstance(each.norm, nn.Identity))
    assert_same_step(net, torch.rand(2, 3, 11, 13))


@pytest.mark.parametrize("recipe", OTHERS)
def test_other_recipes_take_the_reference_and_say_why(recipe):
    net = LMBSRResNet(num_feat=8, num_block=1, upscale=2, recipe=recipe)
    for each in binary_convs(net):
        assert each.trains_by.startswith("reference: ")
    assert "trains_by=reference: " in repr(net)
    assert net(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)


def test_print_and_summary_say_the_path():
    net = LMBSRResNet(num_feat=8, num_block=1, upscale=2, recipe="lmb")
    assert "trains_by=engine" in repr(net)
    report = summary(net, (1, 3, 8, 8))
    assert {each.trains_by for each in report.layers if each.kind == "BinaryConv2d"} == {"engine"}
    assert "trains by" in str(report)


def test_every_second_layer_of_a_row_keeps_no_input():
    torch.manual_seed(0)
    first, second, third = (layer(skip=True, act="rprelu") for _ in range(3))
    x = torch.randn(2, 8, 9, 9, requires_grad=True)
    y1 = first(x)
    y2 = second(y1)
    y3 = third(y2)
    keeps = [any(t is not None and t.data_ptr() == of.data_ptr() for t in y.grad_fn.saved_tensors)
             for y, of in ((y2, y1), (y3, y2))]  # fmt: skip
    assert keeps == [False, True]
    assert_same_step(nn.Sequential(first, second, third), x)


def test_an_output_that_was_written_to_is_kept():
    torch.manual_seed(0)
    net = nn.Sequential(layer(skip=True), nn.ReLU(inplace=True), layer(act="rprelu"))
    assert_same_step(net, torch.randn(2, 8, 6, 7))


def test_writing_to_a_kept_input_is_an_error():
    net, x = layer(), torch.randn(1, 8, 5, 5, requires_grad=True)
    y = x * 1
    out = net(y.contiguous(memory_format=torch.channels_last))
    kept = out.grad_fn.saved_tensors[0]
    kept.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_writing_to_an_input_between_two_layers_leaves_the_second_ones_gradients():
    torch.manual_seed(0)
    first, second = layer(skip=True), layer(rescale="spatial", activation_options={"shift": "channel"})
    found = []
    for one, two in ((first, second), (plain(first), plain(second))):
        x = torch.randn(2, 8, 6, 7, generator=torch.Generator().manual_seed(1)).contiguous(
            memory_format=torch.channels_last
        )
        y = one(x)
        x.mul_(2)
        found.append(torch.autograd.grad(two(y).square().sum(), list(two.parameters())))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64, torch.device("meta")], ids=str)
def test_pytorchs_defaults_change_nothing(default):
    torch.manual_seed(0)
    net = LMBSRResNet(num_feat=16, num_block=1, recipe="lmb-spatial").train()
    small, large = (
        torch.rand(2, 3, 9, 8),
        torch.rand(1, 3, 90, 91),
    )  # a result of more than a MiB has memory of another kind
    packed = lmb.convert(net)

    def values():
        with torch.no_grad():
            inferred = packed(large)
        y, gradients, _ = step(net, small, torch.ones(2, 3, 36, 32, dtype=torch.float32, device="cpu"))
        return y, list(gradients.values()), inferred, packed.conv_first(large)

    expected = values()
    before = torch.get_default_dtype()
    try:
        if isinstance(default, torch.dtype):
            torch.set_default_dtype(default)
            found = values()
        else:
            with default:
                found = values()
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_second_backward_with_a_kept_graph_and_double_backward():
    torch.manual_seed(0)
    net, x = nn.Sequential(layer(skip=True), layer()), torch.randn(1, 8, 6, 6, requires_grad=True)
    y = net(x).square().sum()
    (one,) = torch.autograd.grad(y, x, retain_graph=True)
    (two,) = torch.autograd.grad(y, x, retain_graph=True)
    assert torch.equal(one, two)
    (grad,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_gradients_activations_and_weights_that_are_not_finite(value):
    torch.manual_seed(0)
    net = layer(skip=True, act="rprelu", activation_options={"shift": "channel", "gain": "channel"}, rescale="spatial")
    x, grad = torch.randn(2, 8, 7, 7), torch.randn(2, 8, 7, 7)
    grad[0, 3, 2, 2] = value
    for each in (net, nn.Sequential(copy.deepcopy(net), copy.deepcopy(net))):
        _, gradients, _ = step(each, x, grad)
        _, reference, _ = step(plain(each), x, grad)
        for name in reference:
            assert not torch.isfinite(reference["input"]).all()
            assert torch.equal(torch.isfinite(gradients[name]), torch.isfinite(reference[name])), name
    x[1, 2, 3, 4] = value
    y, _, _ = step(net, x)
    expected, _, _ = step(plain(net), x)
    torch.testing.assert_close(y, expected, equal_nan=True)
    with torch.no_grad():
        net.weight[0, 0, 0, 0] = value
    y, _, _ = step(net, x)
    expected, _, _ = step(plain(net), x)
    torch.testing.assert_close(y, expected, equal_nan=True)


def test_a_batch_of_zeros_and_images_smaller_than_the_window():
    net = layer(skip=True, act="rprelu", activation_options={"window": 9, "gain": "channel"})
    assert_same_step(net, torch.zeros(2, 8, 4, 4))
    assert_same_step(net, torch.randn(2, 8, 1, 2))


def test_any_number_of_threads_gives_the_same_bits():
    torch.manual_seed(0)
    net, x = layer(24, 24, skip=True, act="rprelu"), torch.randn(5, 24, 13, 11)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y, gradients, _ = step(net, x)
            results.append([y, *gradients.values()])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    "name", ["hook", "global hook", "double", "function", "compile", "grad of a function", "engine off"]
)
def test_what_the_engine_does_not_take_goes_to_the_reference(name, monkeypatch):
    torch.manual_seed(0)
    net, x, seen = layer(skip=True), torch.randn(1, 8, 5, 5), []
    if name == "hook":
        net.binarize_input.register_forward_hook(lambda *args: seen.append(args))
    if name == "global hook":
        hook = torch.nn.modules.module.register_module_full_backward_pre_hook(lambda *args: seen.append(args))
    if name == "double":
        net, x = net.double(), x.double()
    if name == "engine off":
        monkeypatch.setattr(engine_path, "find", lambda: (None, "LMB_QUANT_KERNELS=off"))
        assert net.trains_by == "reference: LMB_QUANT_KERNELS=off"
    monkeypatch.setattr(engine_path, "run", lambda *args: pytest.fail("the engine was taken"))
    if name == "function":

        class Mode(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                seen.append(func)
                return func(*args, **(kwargs or {}))

        with Mode():
            net(x)
        assert torch.conv2d in seen or any("conv2d" in str(f) for f in seen)
    elif name == "compile":
        torch.compile(net, backend="eager")(x)
    elif name == "grad of a function":
        with pytest.raises(RuntimeError, match="setup_context"):
            torch.func.grad(lambda z: net(z).sum())(x)
    else:
        assert net(x).dtype == x.dtype
    assert name != "hook" or len(seen) == 1
    if name == "global hook":
        hook.remove()


def test_a_view_whose_memory_holds_the_negative_is_read_right():
    net, x = layer(skip=True), torch.randn(1, 8, 5, 5)
    assert torch.equal(net(torch._neg_view(-x)), net(x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    torch.manual_seed(0)
    net, x = nn.Sequential(layer(skip=True, act="rprelu"), layer()), torch.randn(2, 8, 6, 6)
    expected = net(x)
    with mode():
        assert torch.equal(net(x), expected)
        assert torch.equal(net(x.clone()), expected)
        made = LMBSRResNet(num_feat=8, num_block=1, upscale=2)  # its parts are found by a run
        assert made(torch.rand(1, 3, 5, 5)).shape == (1, 3, 10, 10)


def test_autocast_keeps_float32_inside_a_unit():
    torch.manual_seed(0)
    net, x = layer(skip=True, act="rprelu"), torch.randn(2, 8, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x)
        rounded = net(x.bfloat16())
    assert y.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(y, net(x), rtol=0, atol=0)
    torch.testing.assert_close(rounded, net(x.bfloat16().float()), rtol=0, atol=0)


def test_bfloat16_gradients_point_the_same_way():
    torch.manual_seed(0)
    net, x = layer(32, 32, skip=True, act="rprelu"), torch.randn(2, 32, 12, 12)
    _, exact, _ = step(net, x)
    assert set_precision(net, "bf16") == "bf16"
    _, rounded, _ = step(net, x)
    for name in ("weight", "input"):
        assert not torch.equal(exact[name], rounded[name])
        cosine = torch.cosine_similarity(exact[name].flatten(), rounded[name].flatten(), dim=0)
        assert cosine > 0.9999
    with pytest.raises(LMBError, match=r"precision: 'half' is not allowed. Allowed: auto, bf16, fp32"):
        set_precision(net, "half")
    assert set_precision(net, "fp32") == "fp32"
    assert torch.equal(step(net, x)[1]["weight"], exact["weight"])


def test_networks_copy_and_pickle_after_a_step():
    torch.manual_seed(0)
    net, x = binarize(nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 3)), "lmb"), torch.rand(1, 3, 8, 8)
    y = net(x)
    y.mean().backward()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(y.detach())), y)


def test_parameters_that_need_no_gradient_get_none():
    torch.manual_seed(0)
    net = layer(act="rprelu", rescale="spatial", activation_options={"shift": "channel"})
    for frozen in (["weight"], ["bias", "act.beta"], ["weight", "binarize_input.threshold_shift"]):
        other = copy.deepcopy(net)
        for name in frozen:
            other.get_parameter(name).requires_grad_(False)
        assert_same_step(other, torch.randn(2, 8, 5, 5))
    y = net(torch.randn(1, 8, 5, 5))  # an input without gradient
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
