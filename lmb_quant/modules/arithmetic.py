# SPDX-License-Identifier: Apache-2.0
"""In which numbers the engine multiplies where a network stayed real."""

from __future__ import annotations

from torch import nn

from lmb_quant.errors import LMBError, unknown_name

ARITHMETICS = ("float32", "int8")

INT8 = "multiplies_int8"
"""The attribute of a convolution; without it, it multiplies in float32."""

_MOST_INPUTS = 1024


def _takes_int8(conv: nn.Module) -> bool:
    """Whether it is a dense pointwise convolution, which the engine can run in 8 bits."""
    return (
        type(conv) is nn.Conv2d and conv.kernel_size == (1, 1) and conv.groups == 1 and conv.in_channels <= _MOST_INPUTS
    )


def multiplies_int8(conv: nn.Module) -> bool:
    """Whether the engine is to run a convolution in 8 bits."""
    return bool(getattr(conv, INT8, False))


def set_real_arithmetic(model: nn.Module, name: str) -> int:
    """Sets in which numbers the engine multiplies in a network's real pointwise convolutions.

    ``int8``: each pixel's values are rounded to 127ths of the largest of them, each output's weights likewise, and the
    sums are whole numbers, the same on every CPU. It is faster, most with AVX-512 VNNI. The weights of a file with int8
    weights lose nothing. It holds where one call of the engine runs the network, as in :func:`lmb_quant.upscale` and
    ``lmb-quant upscale``; where it runs module by module, and in training, all is float32.

    Args:
        model: Any module; its real convolutions are marked in place. The mark is not saved.
        name: ``float32`` or ``int8``.

    Returns:
        How many convolutions it is about: dense ones of 1 x 1 with at most 1024 inputs.

    Raises:
        LMBError: If the name is unknown.

    Source:
        This project's choice.
    """
    if name not in ARITHMETICS:
        raise LMBError(unknown_name("arithmetic", name, ARITHMETICS))
    convs = [module for module in model.modules() if _takes_int8(module)]
    for conv in convs:
        setattr(conv, INT8, name == "int8")
    return len(convs)
