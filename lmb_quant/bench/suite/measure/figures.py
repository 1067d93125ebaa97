# SPDX-License-Identifier: Apache-2.0
"""What a network costs: parameters, operations, additions, and the bytes of its file."""

from __future__ import annotations

from typing import Any

from torch import nn

from lmb_quant.bench.suite.plan.cell import lr_size
from lmb_quant.counting import summary
from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d
from lmb_quant.packing import convert

from .file_size import packed_size, plain_size
from .hosts import HostForm

INT8_MACS_PER_OP = 8


def count(network: nn.Module, upscale: int) -> dict[str, Any]:
    """Counts a network, float or in training form.

    Args:
        network: On the CPU, for RGB images.
        upscale: SR factor; the LR image has 1/upscale of 720 x 1280 pixels, rounded (180 x 320 at x4).

    Returns:
        ``input_size``; ``params`` (float weights + binary / 32), ``ops`` (float MACs + binary MACs / 64) and their
        ``float_`` counterparts; ``float_macs``, ``binary_macs``, ``additions`` (of local means); ``bytes`` of the
        file, packed where the network is binary, ``float_bytes``; ``bytes_note``, empty if the file was written, else
        why ``bytes`` is only computed.
    """
    size = (1, 3, *lr_size(upscale))
    figures = summary(network, size)
    size_on_disk, note = _bytes(network, figures.bytes)
    return {
        "input_size": list(size),
        "params": figures.params,
        "float_params": figures.float_params,
        "ops": figures.ops,
        "float_ops": figures.float_ops,
        "float_macs": sum(layer.float_macs for layer in figures.layers),
        "binary_macs": sum(layer.binary_macs for layer in figures.layers),
        "additions": figures.additions,
        "bytes": size_on_disk,
        "float_bytes": figures.float_bytes,
        "bytes_note": note,
    }


def count_host_form(form: HostForm, network: nn.Module, upscale: int) -> dict[str, Any]:
    """Counts a host's form of a network.

    Args:
        form: The form.
        network: The network that it was made of, on the CPU.
        upscale: SR factor.

    Returns:
        As :func:`count`, and ``int8_macs``: products of int8 weights and int8 activations, 1/8 of an operation each
        (this project's choice: a 64-bit word holds 8 of them, as it holds 64 bits). All other MACs count in full, those
        in bf16 and those with weights that are widened at run time among them. ``params`` counts a weight of n bits as
        n/32. ``bytes`` is the file of all that the form needs, ``storage_note`` says what is odd in it.
    """
    figures = count(network, upscale)
    layers = summary(network, tuple(figures["input_size"])).layers
    int8_macs = sum(layer.float_macs for layer in layers if layer.name in form.int8_layers)
    return {
        **figures,
        "params": figures["params"]
        - sum(la.weights * (1 - form.bits[la.name] / 32) for la in layers if la.name in form.bits),
        "ops": figures["ops"] - int8_macs + int8_macs / INT8_MACS_PER_OP,
        "float_macs": figures["float_macs"] - int8_macs,
        "int8_macs": int8_macs,
        "bytes": form.bytes,
        "storage_note": form.note,
    }


def _bytes(network: nn.Module, computed: int) -> tuple[int, str]:
    """Bytes of the file, and why they are only computed where no file can be written."""
    if not any(isinstance(module, BinaryConv2d) for module in network.modules()):
        return plain_size(network.state_dict()), ""
    try:
        return packed_size(convert(network)), ""
    except LMBError as error:
        return computed, f"computed, not written: {error}"
