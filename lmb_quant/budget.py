# SPDX-License-Identifier: Apache-2.0
"""How fast the trained networks are on this machine, and which of them is the best within a given time."""

from __future__ import annotations

import math
import time

import numpy as np

from lmb_quant.errors import LMBError
from lmb_quant.modules import set_real_arithmetic
from lmb_quant.serialize import from_pretrained
from lmb_quant.stages import require_int8
from lmb_quant.upscaling import Upscaler
from lmb_quant.zoo import cards, network_names
from lmb_quant.zoo.card import Card

_SIZE = (180, 320)
"""LR pixels of the image that is timed: x4 gives 1280 x 720."""

_RANKED_BY = "B100"
"""The test set that ranks networks: a hundred photographs, where Set5 has five."""


def milliseconds_per_megapixel(
    name: str, threads: int | None = None, runs: int = 3, arithmetic: str = "float32"
) -> float:
    """Measures a network of the zoo on this machine, from a uint8 image to a uint8 image.

    Args:
        name: As ``lmb-quant zoo`` lists it.
        threads: CPU threads; by default as PyTorch is set.
        runs: The fastest of so many counts, after one that does not.
        arithmetic: Of its real pointwise convolutions: ``float32`` or ``int8``.

    Returns:
        Milliseconds for a million pixels of the result.

    Raises:
        LMBError: If there is no network of that name, an argument is not allowed, or int8 is not for this network.

    Source:
        This project's choice.
    """
    network = from_pretrained(name)
    if arithmetic == "int8":
        require_int8(network)
    upscaler = Upscaler(network, threads=threads)
    image = np.random.default_rng(0).integers(0, 256, (*_SIZE, upscaler.traits.channels), np.uint8)
    megapixels = math.prod(_SIZE) * upscaler.upscale**2 / 1e6
    upscaler(image)
    best = math.inf
    for _ in range(runs):
        start = time.perf_counter()
        upscaler(image)
        best = min(best, time.perf_counter() - start)
    return 1e3 * best / megapixels


def best_within(
    budget: float, upscale: int = 4, threads: int | None = None, arithmetic: str = "float32"
) -> tuple[str, float]:
    """The trained network with the highest PSNR on B100 that this machine runs within a budget.

    Args:
        budget: Milliseconds for a million pixels of the result; above 0.
        upscale: SR factor.
        threads: CPU threads; by default as PyTorch is set.
        arithmetic: ``float32``, or ``int8``: among the networks that can run so.

    Returns:
        Its name, and what was measured, in the unit of ``budget``.

    Raises:
        LMBError: If no network has that factor, the arithmetic is unknown, or no network is fast enough; the message
            names the fastest.
    """
    if not 0 < budget < math.inf:
        raise LMBError(f"budget: {budget!r} is not allowed. Allowed: milliseconds above 0.")
    shipped = cards()
    fitting = sorted((card for card in shipped if card.upscale == upscale), key=_rank, reverse=True)
    if not fitting:
        known = ", ".join(str(factor) for factor in sorted({card.upscale for card in shipped}))
        raise LMBError(f"SR factor: {upscale!r} is not allowed. Allowed: {known}.")
    measured: dict[str, float] = {}
    for card in fitting:
        if _runs_in(arithmetic, card.name):
            measured[card.name] = milliseconds_per_megapixel(card.name, threads, arithmetic=arithmetic)
            if measured[card.name] <= budget:
                return card.name, measured[card.name]
    fastest = min(measured, key=measured.__getitem__)
    raise LMBError(
        f"budget: no x{upscale} network makes a megapixel in {budget:g} ms here. The fastest is {fastest}, in "
        f"{measured[fastest]:.0f} ms."
    )


def milliseconds_of_all(threads: int | None = None, arithmetic: str = "float32") -> dict[str, float]:
    """:func:`milliseconds_per_megapixel` of each network of the zoo that can run in an arithmetic.

    Args:
        threads: CPU threads; by default as PyTorch is set.
        arithmetic: ``float32``, or ``int8``: only networks with real pointwise convolutions.

    Returns:
        By name.

    Raises:
        LMBError: If an argument is not allowed.
    """
    names = [name for name in network_names() if _runs_in(arithmetic, name)]
    return {name: milliseconds_per_megapixel(name, threads, arithmetic=arithmetic) for name in names}


def _runs_in(arithmetic: str, name: str) -> bool:
    return arithmetic == "float32" or set_real_arithmetic(from_pretrained(name), arithmetic) > 0


def _rank(card: Card) -> float:
    return card.scores[_RANKED_BY].psnr if _RANKED_BY in card.scores else -math.inf
