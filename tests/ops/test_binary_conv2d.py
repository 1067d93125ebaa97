# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/ops/binary_conv2d: the operator against its reference, inside PyTorch's machinery, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from helpers import config, conv, run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lmb_quant import LMBError
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.ops import LayerArguments, active_kernel, binary_conv2d
from lmb_quant.ops.binary_conv2d import binary_conv2d_, forget, reference, spec

ACT_PARTS = {name: act.tensors for name, act in spec.ACTS.items()}


def layer(
    inputs=8, outputs=8, kernel=3, *, groups=1, threshold="local", window=3, shift=False, gain=False, act="rprelu",
    factor=False, **changes,
):  # fmt: skip
    """A packed layer of random numbers."""
    bits = torch.rand(outputs, inputs // groups, kernel, kernel) < 0.5
    numbers = {name: torch.randn(outputs) for name in ("bias", *ACT_PARTS[act])}
    arguments = {
        "weight_packed": reference.pack_bits(bits),
        "weight_scale": torch.rand(outputs) + 0.1,
        **dict.fromkeys(("bias", "slope", "gamma", "zeta")),
        **numbers,
        "shift": torch.randn(inputs) * 0.2 if shift or threshold == "channel" else None,
        "gain": torch.rand(inputs) * 1.5 if gain else None,
        "pixel_factor": torch.randn(inputs + 1) * 0.2 if factor else None,
        "kernel_size": (kernel, kernel),
        "stride": (1, 1),
        "padding": (kernel // 2,) * 4,
        "dilation": (1, 1),
        "groups": groups,
        "threshold": threshold,
        "window": window if threshold == "local" else 1,
        "act": act,
        "act_on": "branch",
        "skip": False,
    }
    return LayerArguments(**(arguments | changes))


def test_pack_and_unpack_are_inverse_and_follow_the_specification():
    bits = torch.rand(5, 11, 3, 2) < 0.5
    packed = reference.pack_bits(bits)
    assert packed.shape == (5, 3 * 2 * 2)
    assert packed.dtype == torch.uint8
    assert torch.equal(reference.unpack_bits(packed, 11, (3, 2)), bits)
    expected = np.packbits(bits.permute(0, 2, 3, 1).numpy(), axis=-1, bitorder="little").reshape(5, -1)
    assert np.array_equal(packed.numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_engine_equals_the_reference(data):
    draw = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    groups, kernel = draw(1, 1, 1, 2, 3), draw(1, 3, 5)
    same = draw(True, False)
    inputs = groups * data.draw(st.integers(1, 40))
    outputs = inputs if same else groups * data.draw(st.integers(1, 40))
    threshold = draw("none", "channel", "local", "local", "global")
    dilation, stride = (1, 1) if same else (draw(1, 2), draw(1, 2, 3))
    padding = (kernel // 2,) * 4 if same else tuple(data.draw(st.integers(0, 4)) for _ in range(4))
    reach = dilation * (kernel - 1)
    height = data.draw(st.integers(max(1, reach + 1 - padding[0] - padding[2]), 20))
    width = data.draw(st.integers(max(1, reach + 1 - padding[1] - padding[3]), 20))
    a = layer(
        inputs, outputs, kernel, groups=groups, threshold=threshold, window=draw(1, 3, 5, 7, 9, 11, 15),
        shift=draw(True, False) and threshold != "none", gain=draw(True, False) and threshold in ("local", "global"),
        act=draw(*ACT_PARTS), act_on=draw("branch", "sum"), stride=(stride, stride),
        dilation=(dilation, dilation), padding=padding, skip=same and draw(True, False),
        factor=same and draw(True, False),
    )  # fmt: skip
    if draw(True, False):
        a = a._replace(bias=None)
    x = torch.randn(data.draw(st.integers(1, 2)), inputs, height, width)
    x = {"noise": x, "sparse": x.relu(), "flat": torch.full_like(x, 0.3), "ramp": x.flatten().sort()[0].view(x.shape)}[
        draw("noise", "sparse", "flat", "ramp")
    ]
    y = binary_conv2d(x, a)
    expected = reference.binary_conv2d(x, a)
    torch.testing.assert_close(y, expected, rtol=0, atol=0 * float(expected.abs().max()))
    if same:
        place = x.contiguous(memory_format=torch.channels_last).clone()
        assert binary_conv2d_(place, a) is place
        assert torch.equal(place, y)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 1e-42, 3e38])
@pytest.mark.parametrize("threshold", ["none", "channel", "local", "global"])
def test_engine_equals_the_reference_at_the_edges_of_float(threshold, value):
    x = torch.randn(1, 8, 6, 7)
    x[0, :, 2, 3] = value
    a = layer(threshold=threshold, act="none", factor=True)
    torch.testing.assert_close(binary_conv2d(x, a), reference.binary_conv2d(x, a), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 1e-42, 3e38, -3e38, 87.5, -87.5, -88.5, -89.5])
@pytest.mark.parametrize("act", ACT_PARTS)
def test_every_act_equals_the_reference_at_the_edges_of_float(act, value):
    x = torch.randn(1, 8, 6, 7)
    x[0, :, 2, 3] = value
    a = layer(act=act, act_on="sum", skip=True, threshold="none")._replace(weight_scale=torch.zeros(8), bias=None)
    torch.testing.assert_close(binary_conv2d(x, a), reference.binary_conv2d(x, a), rtol=0, atol=0, equal_nan=True)


def test_silu_is_the_function_to_rounding():
    v = torch.cat([torch.linspace(-88, 90, 100_001), torch.randn(100_000)])
    exact = v.double() / (1 + v.double().neg().exp())
    y = reference.ACTS["silu"](v, layer(act="silu"))
    torch.testing.assert_close(y.double(), exact, rtol=2**-22, atol=0)
    torch.testing.assert_close(y, nn.functional.silu(v), rtol=2**-21, atol=0)
    edges = torch.tensor([-3e38, -0.0, math.inf, -math.inf, math.nan])
    torch.testing.assert_close(
        reference.ACTS["silu"](edges, layer(act="silu")), nn.functional.silu(edges), rtol=0, atol=0, equal_nan=True
    )


FORMS = {"none": ("sign", {}), "channel": ("rsign", {}), "local": ("local_mean", {}),
         "global": ("local_mean", {"window": "global"})}  # fmt: skip


@torch.no_grad()
def test_matrix_tiles_that_pytorch_has_set_are_as_they_were():
    torch.manual_seed(0)
    half = nn.Conv2d(64, 64, 3, padding=1).bfloat16().to(memory_format=torch.channels_last)
    packed = PackedBinaryConv2d.from_binary(BinaryConv2d.from_float(conv(64, 48), config()).eval())
    x, y = torch.randn(1, 64, 20, 33).contiguous(memory_format=torch.channels_last), torch.randn(1, 64, 9, 70)
    expected = half(x.bfloat16()), packed(y)
    for _ in range(3):
        assert torch.equal(half(x.bfloat16()), expected[0])
        assert torch.equal(packed(y), expected[1])


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512", "amx", "neon"])
@pytest.mark.parametrize("threshold", FORMS)
def test_nan_and_infinities_give_the_bits_and_values_of_the_training_form(threshold, isa, monkeypatch):
    monkeypatch.setenv("LMB_QUANT_ISA", isa)
    try:
        active_kernel()
    except LMBError:
        pytest.skip(f"{isa} is not on this machine")
    activation, options = FORMS[threshold]
    words = {"activation": activation, "activation_options": options, "act": "rprelu", "skip": True}
    net = BinaryConv2d.from_float(conv(16, 16), config(**words)).eval()
    packed = PackedBinaryConv2d.from_binary(net)
    assert packed.config.threshold == threshold
    x = torch.randn(2, 16, 9, 11)
    x[0, 1, 4, 5], x[0, 2, 4, 5], x[0, 3, 4, 5] = math.nan, math.inf, -math.inf
    x[0, 4, 4, 5], x[0, 4, 5, 5] = math.inf, -math.inf
    x[1, 5:9] = torch.tensor([math.nan, math.inf, -math.inf, 3e38]).view(4, 1, 1)
    x[1, 9, ::2], x[1, 10, :, ::3] = math.inf, math.nan
    with torch.no_grad():
        bits, expected, y = net.binarize_input(x) > 0, net(x), packed(x)
    given = (threshold, packed.config.window, packed.threshold_shift, packed.threshold_gain)
    assert torch.equal(reference.input_bits(x, *given), bits)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert torch.equal(y.isnan(), x.isnan())  # only the skip carries them on


@pytest.mark.parametrize("changes", [{}, {"skip": True}, {"act": "none", "threshold": "none"}, {"kernel": 1}], ids=str)
def test_opcheck(changes):
    torch.library.opcheck(torch.ops.lmb_quant.binary_conv2d, (torch.randn(2, 8, 6, 7), *layer(**changes)))
    torch.library.opcheck(torch.ops.lmb_quant.binary_conv2d_, (torch.randn(2, 8, 6, 7), *layer(**changes)))


def test_compile_with_dynamic_sizes():
    net = Holder(layer(skip=True)).eval()
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((1, 8, 9, 7), (2, 8, 5, 12)):
        x = torch.randn(size)
        assert torch.equal(compiled(x), net(x))


def test_export_with_dynamic_sizes(tmp_path):
    net, x = Holder(layer()), torch.randn(1, 8, 9, 7)
    sizes = ({2: torch.export.Dim("h", min=4, max=64), 3: torch.export.Dim("w", min=4, max=64)},)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=sizes), tmp_path / "net.pt2")
    loaded, other = torch.export.load(tmp_path / "net.pt2").module(), torch.randn(1, 8, 12, 10)
    assert torch.equal(loaded(other), net(other))


class Holder(nn.Module):
    def __init__(self, arguments):
        super().__init__()
        self.rest = arguments.scalars
        for name, value in zip(spec.TENSORS, arguments.tensors, strict=True):
            if value is not None:
                self.register_buffer(name, value)

    def forward(self, x):
        tensors = [getattr(self, name, None) for name in spec.TENSORS]
        return torch.ops.lmb_quant.binary_conv2d(x, *tensors, *self.rest) * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_computed_in_float32_and_keep_their_type(dtype):
    x, a = torch.randn(1, 8, 6, 7).to(dtype), layer()
    y = binary_conv2d(x, a)
    assert y.dtype == dtype
    assert torch.equal(y, reference.binary_conv2d(x.float(), a).to(dtype))


def test_any_layout_of_the_input_gives_the_same_channels_last_output():
    x, a = torch.randn(2, 8, 6, 7), layer()
    y = binary_conv2d(x, a)
    assert y.is_contiguous(memory_format=torch.channels_last)
    for other in (x.contiguous(memory_format=torch.channels_last), torch.randn(2, 8, 12, 14)[..., ::2, ::2].copy_(x)):
        assert torch.equal(binary_conv2d(other, a), y)
    assert binary_conv2d(x[:0], a).shape == (0, 8, 6, 7)


@pytest.mark.parametrize("threads", [1, 3])
def test_in_place_with_every_layout_type_and_thread_count(threads):
    a, before = layer(skip=True, window=7), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for x in (
            torch.randn(2, 8, 70, 40).contiguous(memory_format=torch.channels_last),
            torch.randn(2, 8, 6, 7),
            torch.randn(2, 8, 12, 14)[..., ::2, ::2],
            torch.randn(2, 8, 6, 7, dtype=torch.float64),
            torch.randn(0, 8, 6, 7),
        ):
            expected = binary_conv2d(x, a)
            assert torch.equal(binary_conv2d_(x, a), expected)
    finally:
        torch.set_num_threads(before)


def test_in_place_needs_equal_shapes():
    for a in (layer(8, 9), layer(padding=(0,) * 4)):
        with pytest.raises(LMBError, match="in place"):
            binary_conv2d_(torch.randn(1, 8, 6, 7), a)


def test_a_changed_or_replaced_parameter_is_noticed():
    x, a = torch.randn(1, 8, 6, 7), layer(act="none")
    y = binary_conv2d(x, a)
    a.bias.add_(1)
    assert torch.equal(binary_conv2d(x, a), reference.binary_conv2d(x, a))
    assert not torch.equal(binary_conv2d(x, a), y)
    other = a._replace(weight_scale=a.weight_scale * 2)
    assert torch.equal(binary_conv2d(x, other), reference.binary_conv2d(x, other))
    a.weight_packed.bitwise_not_()
    assert torch.equal(binary_conv2d(x, a), reference.binary_conv2d(x, a))


def test_tensors_made_in_inference_mode_run_and_can_be_forgotten():
    with torch.inference_mode():
        x, a = torch.randn(1, 8, 6, 7), layer(act="none")
        y = binary_conv2d(x, a)
        a.bias.add_(1)
        forget(a.weight_packed)
        assert torch.equal(binary_conv2d(x, a), reference.binary_conv2d(x, a))
        assert not torch.equal(binary_conv2d(x, a), y)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_packed": torch.zeros(8, 8, dtype=torch.uint8)}, "weight_packed"),
        ({"weight_scale": torch.ones(3)}, "weight_scale"),
        ({"bias": torch.ones(8, 1)}, "bias"),
        ({"slope": None}, "slope"),
        ({"gamma": torch.ones(1)}, "gamma"),
        ({"shift": torch.ones(7)}, "shift"),
        ({"gain": torch.ones(7)}, "gain"),
        ({"gain": torch.ones(8), "threshold": "none", "window": 1}, "gain"),
        ({"act_on": "inner_sum"}, "act_on"),
        ({"pixel_factor": torch.ones(8)}, "pixel_factor"),
        ({"pixel_factor": torch.ones(9), "stride": (2, 2)}, "output"),
        ({"threshold": "chanel"}, "channel"),
        ({"threshold": "channel"}, "shift"),
        ({"window": 4}, "window"),
        ({"act": "gelu"}, "act"),
        ({"stride": (0, 1)}, "stride"),
        ({"padding": (0, 0)}, "padding"),
        ({"groups": 3}, "groups"),
        ({"stride": (2, 2), "skip": True}, "skip"),
        ({"padding": (0,) * 4, "dilation": (9, 9)}, "output"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(LMBError, match=words):
        binary_conv2d(
            torch.randn(1, 8, 6, 7),
            layer(window=3)._replace(**{"window": 1 if "threshold" in changes else 3, **changes}),
        )


@pytest.mark.parametrize("x", [torch.ones(1, 8, 4, 4, dtype=torch.int64), torch.ones(8, 4, 4), torch.ones(1, 7, 4, 4)])
def test_inputs_that_do_not_fit_are_refused(x):
    with pytest.raises(LMBError, match=r"input|weight"):
        binary_conv2d(x, layer())


def test_environment_switches():
    """In one process, which forgets what it found: the environment is read when the engine is looked for."""
    code = """
import os, warnings
from lmb_quant.ops import _library
for switches in SWITCHES:
    for name in ("LMB_QUANT_KERNELS", "LMB_QUANT_ISA"):
        os.environ.pop(name, None)
    os.environ.update(switches)
    _library.find.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            print(_library.active_kernel(), end=" ")
        except ValueError as error:
            print("refused:", error, end=" ")
    print(len(caught), "warnings")
"""
    switches = [{"KERNELS": "off"}, {"KERNELS": "of"}, {"KERNELS": "require", "ISA": "portable"}, {"ISA": "sse9"}]
    switches = [{f"LMB_QUANT_{name}": value for name, value in given.items()} for given in switches]
    off, unknown, required, isa = run_python(code.replace("SWITCHES", repr(switches))).splitlines()
    assert off == "PyTorch reference (LMB_QUANT_KERNELS=off) 0 warnings"
    assert unknown.startswith("refused")
    assert "Did you mean 'off'" in unknown
    if "engine" in active_kernel():
        assert required == "engine, portable 0 warnings"
        assert isa.startswith("refused")


def test_without_the_library_there_is_one_warning():
    code = """
import warnings
from lmb_quant.ops import _library
_library.shared_libraries = lambda: []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(_library.active_kernel(), _library.active_kernel())
print(len(caught), caught[0].message)
"""
    first, second = run_python(code).splitlines()
    assert first.startswith("PyTorch reference (the compiled engine is not installed")
    assert second.startswith("1 packed layers run by the PyTorch reference")
