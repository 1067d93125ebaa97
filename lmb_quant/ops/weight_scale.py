# SPDX-License-Identifier: Apache-2.0
"""Weight scales: the real factor alpha beside the signs of a filter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name


def _channel_mean(weight: Tensor) -> Tensor:
    return weight.abs().mean(dim=(1, 2, 3))


def _layer_mean(weight: Tensor) -> Tensor:
    return weight.abs().mean().expand(weight.shape[0])


def _one(weight: Tensor) -> Tensor:
    return torch.ones_like(weight[:, 0, 0, 0])


WEIGHT_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "channel_mean": _channel_mean,
    "layer_mean": _layer_mean,
    "one": _one,
}


def register_weight_scale(
    name: str,
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """Adds a weight scale under its recipe word, from the file of the binariser that it belongs to.

    Args:
        name: The word in ``weight: {scale: ...}``. The decorated function maps ``(O, I, Kh, Kw)`` to ``(O,)``, same
            dtype, and its docstring gives the source.

    Raises:
        LMBError: If the name is taken.
    """

    def add(scale: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        if name in WEIGHT_SCALES:
            raise LMBError(f"weight scale name {name!r} is already taken by {WEIGHT_SCALES[name].__qualname__}.")
        WEIGHT_SCALES[name] = scale
        return scale

    return add


def check_weight_scale(name: str) -> str:
    """Returns ``name`` if it is a weight scale.

    Raises:
        LMBError: If it is not; the message names the nearest one.
    """
    if name not in WEIGHT_SCALES:
        raise LMBError(unknown_name("weight scale", name, WEIGHT_SCALES))
    return name


def weight_scale(weight: Tensor, name: str) -> Tensor:
    """Computes alpha, one value per output channel.

    ================ ============================== =====================================
    name             alpha                          source
    ================ ============================== =====================================
    ``channel_mean`` mean of abs(W) over a filter   XNOR-Net, arXiv 1603.05279, eq. 6
    ``layer_mean``   mean of abs(W) over the layer  DoReFa-Net, arXiv 1606.06160, eq. 7
    ``one``          1                              BNN, arXiv 1602.02830
    ================ ============================== =====================================

    Binarisers add more: ``bit_shift`` (``lmb_quant/binarizers/libra.py``).

    Args:
        weight: ``(O, I, Kh, Kw)``, floating point.
        name: A key of the table.

    Returns:
        ``(O,)``, same dtype, >= 0, without gradient (as in ReActNet's code: the scale follows the weights and is not
        itself a path for their gradient).

    Raises:
        LMBError: If ``name`` is unknown.
    """
    return WEIGHT_SCALES[check_weight_scale(name)](weight.detach())
