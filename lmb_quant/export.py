# SPDX-License-Identifier: Apache-2.0
"""export_onnx(): packed networks as ONNX files of standard operators, the weights still packed."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, reason
from lmb_quant.files import check_writable, write_atomically
from lmb_quant.modules import binary_convs, packed_convs
from lmb_quant.ops.binary_conv2d.spec import ACTS, TENSORS, LayerArguments
from lmb_quant.ops.local_mean.reference import TIE_MARGIN
from lmb_quant.structure import check_input_size
from lmb_quant.wrappers import unwrapped

_OPSET = 20
_INT64_MAX = 2**63 - 1
_OTHER_SHAPES = ("weight_packed", "pixel_factor")  # all other tensors hold one value a channel


def export_onnx(model: nn.Module, path: str | Path, input_size: tuple[int, int, int, int] = (1, 3, 64, 64)) -> None:
    """Writes a packed network as an ONNX file (opset 20) that any ONNX runtime runs; batch, height and width are free.

    The weights stay packed in the file and are unpacked by standard operators when it is loaded: the file is small,
    the speed that of a float convolution. :func:`lmb_quant.load` is the fast road. Bits are those of the packed form;
    values are equal to float32 rounding.

    Args:
        model: What :func:`lmb_quant.convert` or :func:`lmb_quant.load` returned, on the CPU. A wrapper around it
            (DataParallel, AveragedModel, torch.compile) is left out.
        path: The file; an existing one is replaced once the new one is complete.
        input_size: An input ``(N, C, H, W)`` that the network takes, to trace it with. Where N, H or W is 1, it is
            traced with 2, for a size of 1 would be taken as fixed.

    Raises:
        LMBError: If the network is not packed, not float32 on the CPU or does not run on ``input_size``, packages are
            missing or broken, the file cannot be written, or the exporter fails.
        TypeError: If ``model`` is not a module.
    """
    path = Path(path)
    model = _packed(model)
    check_writable(path)
    _import_exporter()
    x = torch.rand(_trace_size(model, input_size))
    axes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter's own
            program = torch.onnx.export(
                model,
                (x,),
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=(axes,),
                input_names=["image"],
                output_names=["upscaled"],
                custom_translation_table={torch.ops.lmb_quant.binary_conv2d.default: _binary_conv2d},
                optimize=False,  # it would fold the unpacking, and store float32
                verbose=False,
            )
        assert program is not None
        parts: list[Any] = [*program.model.graph.all_nodes(), *program.model.graph.initializers.values()]
        for part in parts:
            part.metadata_props.clear()  # stack traces: nine tenths of the file, and they name the user's paths
        data = program.model_proto.SerializeToString()
    except torch.onnx.errors.OnnxExporterError as error:
        raise LMBError(f"model: it cannot be exported: {error.__cause__ or error}") from error
    write_atomically(path, data)


def _packed(model: nn.Module) -> nn.Module:
    """The network without wrappers.

    Raises:
        LMBError: If it is not packed, or not float32 on the CPU.
        TypeError: If it is not a module.
    """
    model = unwrapped(model)
    if not any(packed_convs(model)):
        raise LMBError("model: it has no packed layer. Use convert() first; torch.onnx.export takes float networks.")
    if any(binary_convs(model)):
        raise LMBError("model: it has binary layers that are not packed. Use convert() first.")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != "cpu":
            raise LMBError(f"model: {name!r} is on {tensor.device}. Allowed: a network on the CPU, with its values.")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise LMBError(f"model: {name!r} is {tensor.dtype}. Allowed: torch.float32; model.float() makes it so.")
    return model


def _import_exporter() -> None:
    """Imports what torch's exporter needs, which is optional.

    Raises:
        LMBError: If it cannot be imported, for whatever reason.
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except Exception as error:  # a broken installation raises anything
            raise LMBError(
                f"ONNX needs packages: {package}: {reason(error)}. To install them: pip install 'lmb-quant[onnx]'."
            ) from error


def _trace_size(model: nn.Module, input_size: Sequence[int]) -> tuple[int, ...]:
    """The size to trace with; the network runs on it and on the size that was given.

    Raises:
        LMBError: If it does not, or the size is none.
    """
    check_input_size(input_size)
    if len(input_size) != 4:
        raise LMBError(f"input_size: {input_size!r} is not allowed. Allowed: (N, C, H, W).")
    given = tuple(input_size)
    batch, channels, height, width = given
    traced = max(batch, 2), channels, max(height, 2), max(width, 2)
    for size in dict.fromkeys((given, traced)):
        try:
            with torch.no_grad():
                model(torch.rand(size))
        except Exception as error:  # a network may raise anything on a size that it was not made for
            raise LMBError(f"input_size: the model does not run on {size!r}: {reason(error)}") from error
    return traced


def _binary_conv2d(x: Any, *arguments: Any) -> Any:
    """ops/binary_conv2d/reference.py, in ONNX's operators."""
    from onnxscript import opset20 as op

    def per_channel(values: Any) -> Any:
        return None if values is None else op.Reshape(values, _ints(1, -1, 1, 1))

    given = LayerArguments(*arguments)
    inputs = int(x.shape[1])
    vectors = {name: per_channel(getattr(given, name)) for name in TENSORS if name not in _OTHER_SHAPES}
    a = given._replace(**vectors)
    signs = _pm1(op, _input_bits(op, x, a))
    weight = _pm1(op, _unpacked(op, a.weight_packed, inputs // a.groups, a.kernel_size))
    y = op.Conv(
        signs, weight, group=a.groups, strides=list(a.stride), pads=list(a.padding), dilations=list(a.dilation),
        kernel_shape=list(a.kernel_size),
    )  # fmt: skip
    y = op.Mul(y, a.weight_scale)
    if a.pixel_factor is not None:
        y = op.Mul(y, _factor_of_pixels(op, x, a.pixel_factor, inputs))
    if a.bias is not None:
        y = op.Add(y, a.bias)
    if a.skip and a.act_on == "sum":
        return ACTS[a.act].onnx(op, op.Add(y, x), a)
    y = ACTS[a.act].onnx(op, y, a)
    return op.Add(y, x) if a.skip else y


def _factor_of_pixels(op: Any, x: Any, pixel_factor: Any, inputs: int) -> Any:
    weight = op.Reshape(op.Slice(pixel_factor, _ints(0), _ints(inputs), _ints(0)), _ints(1, -1, 1, 1))
    offset = op.Slice(pixel_factor, _ints(inputs), _ints(inputs + 1), _ints(0))
    return op.Clip(op.Conv(x, weight, offset), _float(0), _float(1))


def _pm1(op: Any, bits: Any) -> Any:
    return op.Where(bits, _float(1), _float(-1))


def _unpacked(op: Any, packed: Any, inputs: int, kernel_size: Sequence[int]) -> Any:
    masks = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8).view(1, 1, 8)
    bits = op.BitwiseAnd(op.Unsqueeze(packed, _ints(2)), _constant(masks))
    bits = op.Reshape(op.Cast(bits, to=9), _ints(0, *kernel_size, -1))  # 9: bool
    return op.Transpose(op.Slice(bits, _ints(0), _ints(inputs), _ints(3)), perm=[0, 3, 1, 2])


def _input_bits(op: Any, x: Any, a: LayerArguments) -> Any:
    value = x if a.shift is None else op.Sub(x, a.shift)
    if a.threshold in ("none", "channel"):
        return op.GreaterOrEqual(value, _float(0))
    if a.threshold == "local":
        frame = op.Concat(_ints(1, 1), op.Shape(x, start=2), axis=0)
        total, count = _window_sum(op, x, a.window), _window_sum(op, op.Expand(_float(1), frame), a.window)
    else:
        mean = op.ReduceMean(op.Cast(x, to=11), _ints(2, 3), keepdims=1)  # 11: double
        total, count = op.Cast(mean, to=1), _float(1)
    if a.gain is not None:
        total = op.Mul(total, a.gain)
    scaled = op.Mul(count, value)
    margin = op.Mul(op.Add(op.Abs(scaled), op.Abs(total)), _float(-TIE_MARGIN))
    return op.GreaterOrEqual(op.Sub(scaled, total), margin)


def _window_sum(op: Any, x: Any, window: int) -> Any:
    """Columns top to bottom, then left to right: the order of the additions is part of the definition."""
    half = window // 2
    for axis in (2, 3):
        padded = op.Pad(x, _ints(half, half), _float(0), _ints(axis))
        for i in range(window):
            end = i - window + 1 or _INT64_MAX
            part = op.Slice(padded, _ints(i), _ints(end), _ints(axis))
            x = op.Add(x, part) if i else part
    return x


def _constant(values: Tensor) -> Any:
    import onnx
    from onnxscript import opset20 as op

    return op.Constant(value=onnx.numpy_helper.from_array(values.numpy()))


def _ints(*values: int) -> Any:
    return _constant(torch.tensor(values, dtype=torch.int64))


def _float(value: float) -> Any:
    return _constant(torch.tensor(value, dtype=torch.float32))
