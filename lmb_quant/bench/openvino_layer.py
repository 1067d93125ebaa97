# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's BinaryConvolution (operation set 1) as a competitor: the one other 1-bit convolution for CPUs that runs.

Nothing converts networks to it any more, so the layer is built by hand.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmb_quant.modules import PackedBinaryConv2d
from lmb_quant.ops.binary_conv2d.reference import unpack_bits

_CHANNELS = 8
_BELOW_ZERO = -(2.0**-20)  # its quantiser asks for more than the threshold, sign for 0 or more


def why_not(channels: int) -> str:
    """Why a layer of so many channels cannot be compared here, or an empty string."""
    if importlib.util.find_spec("openvino") is None:
        return "it is not installed. To install it: pip install 'lmb-quant[bench]'"
    if channels % _CHANNELS:
        return f"its results are wrong for {channels} channels. Allowed: multiples of {_CHANNELS}"
    return ""


def openvino_layer(layer: PackedBinaryConv2d, height: int, width: int, threads: int) -> Callable[[Tensor], Tensor]:
    """Compiles a packed layer for OpenVINO's CPU plugin: binarised by sign, a scale a channel, bias, RPReLU, skip.

    Args:
        layer: 3 x 3, as many outputs as inputs, zero padding that keeps the size; threshold ``none``.
        height: Height of the input, pixels.
        width: Its width, pixels.
        threads: CPU threads.

    Returns:
        Maps float32 ``(1, C, H, W)``, channels-last, to the same, in memory that the next call writes again. Its values
        are those of the packed layer to float32 rounding, where no input lies between -2^-20 and 0.
    """
    import openvino as ov

    request = (
        ov.Core()
        .compile_model(
            _channels_last(_model(layer, height, width)),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
                "ENABLE_CPU_PINNING": False,
            },
        )
        .create_infer_request()
    )

    def run(x: Tensor) -> Tensor:
        request.set_input_tensor(ov.Tensor(x.permute(0, 2, 3, 1).numpy(), shared_memory=True))
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data).permute(0, 3, 1, 2)

    return run


def _model(layer: PackedBinaryConv2d, height: int, width: int) -> Any:
    import openvino as ov
    from openvino import opset1 as op

    a = layer.arguments()
    channels = layer.config.in_channels

    def row(values: Any) -> Any:
        return op.constant(np.broadcast_to(np.float32(values), channels).reshape(1, channels, 1, 1).copy())

    def values(name: str) -> np.ndarray[Any, Any]:
        return getattr(a, name).numpy()

    x = op.parameter([1, channels, height, width], np.float32)
    bits = op.fake_quantize(x, row(_BELOW_ZERO), row(_BELOW_ZERO), row(0), row(1), 2)
    signs = unpack_bits(a.weight_packed, channels, layer.config.kernel_size).numpy().astype(np.uint8)
    in_bytes = signs.reshape(-1, 8)[:, ::-1].ravel().copy()  # Constant takes the first of eight as the highest bit
    weight = ov.op.Constant(ov.Type.u1, ov.Shape(list(signs.shape)), in_bytes)
    y = op.binary_convolution(bits, weight, [1, 1], [1, 1], [1, 1], [1, 1], "xnor-popcount", 0.0)  # padding adds 0
    y = op.add(op.multiply(y, row(values("weight_scale"))), row(values("bias") - values("gamma")))
    y = op.add(op.prelu(y, op.constant(values("slope"))), row(values("zeta")))
    return ov.Model([op.add(y, x)], [x], "binary layer")


def _channels_last(model: Any) -> Any:
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    made = PrePostProcessor(model)
    for end in (made.input(), made.output()):
        end.tensor().set_layout(Layout("NHWC"))
        end.model().set_layout(Layout("NCHW"))
    return made.build()
