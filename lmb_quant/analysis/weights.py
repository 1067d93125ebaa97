# SPDX-License-Identifier: Apache-2.0
"""The latent weights of layers: how they are distributed, and how many change their sign during a training."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from lmb_quant.errors import LMBError, reason
from lmb_quant.modules import BinaryConv2d

from .layers import Layer

UNDECIDED = 0.1
"""A weight is undecided within this share of its filter's mean magnitude around 0."""


@dataclass(frozen=True)
class WeightFigures:
    """The real weights of a layer; of a binary one they are latent, and their signs are what computes.

    ``magnitude``: mean of |w|. ``positive``: share of weights >= 0. ``undecided``: share that is near 0, measured by
    the filter's mean magnitude. ``kurtosis``: excess kurtosis; NaN where all weights are equal.
    """

    magnitude: float
    positive: float
    undecided: float
    kurtosis: float


@dataclass(frozen=True)
class Flips:
    """Between two checkpoints: the share of each binary layer's weights whose sign changed."""

    first: int
    last: int
    ratios: dict[str, float]

    @property
    def total(self) -> float:
        """Mean over layers."""
        return sum(self.ratios.values()) / len(self.ratios)


def weight_figures(module: nn.Module) -> WeightFigures | None:
    """Describes a convolution's real weights; None for a packed one, which has only their signs."""
    if not isinstance(module, nn.Conv2d):
        return None
    weight = module.weight.detach().double()
    magnitude = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
    varies = bool(weight.max() > weight.min())
    return WeightFigures(
        magnitude=float(weight.abs().mean()),
        positive=float((weight >= 0).double().mean()),
        undecided=float((weight.abs() <= UNDECIDED * magnitude).double().mean()),
        kurtosis=float(stats.kurtosis(weight.flatten().numpy())) if varies else math.nan,
    )


def flips(checkpoints: Sequence[Path], layers: Sequence[Layer]) -> list[Flips]:
    """Compares the signs that binary layers compute with in checkpoints that follow each other.

    Where binary weights have more values than -1 and +1, those of the latent weights.

    Args:
        checkpoints: ``net_g_<iteration>.pth``, the oldest first.
        layers: The network's layers.

    Raises:
        LMBError: If a file is no checkpoint of this network.
    """
    binary = [layer for layer in layers if layer.kind == "binary"]
    if not binary or len(checkpoints) < 2:
        return []
    found: list[Flips] = []
    before: dict[str, Tensor] | None = None
    for path in checkpoints:
        signs = _signs(path, binary)
        if before is not None:
            ratios = {name: float((new != before[name]).double().mean()) for name, new in signs.items()}
            found.append(Flips(found[-1].last if found else _iteration(checkpoints[0]), _iteration(path), ratios))
        before = signs
    return found


def _signs(path: Path, layers: Sequence[Layer]) -> dict[str, Tensor]:
    from lmb_quant.integrations.basicsr.checkpoint import load_file  # the host is heavy and optional

    content = load_file(path)
    state = content.get("params", content)
    return {layer.name: _signs_of(layer, state, path) for layer in layers}


def _signs_of(layer: Layer, state: Mapping[str, Any], path: Path) -> Tensor:
    conv = copy.deepcopy(layer.module)
    assert isinstance(conv, BinaryConv2d)
    prefix = f"{layer.name}." if layer.name else ""
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        missing = conv.load_state_dict(own, strict=False).missing_keys
    except RuntimeError as error:  # other shapes
        raise LMBError(f"{path}: it is no checkpoint of this network: {layer.name}: {reason(error)}") from None
    if missing:
        raise LMBError(f"{path}: it is no checkpoint of this network: it lacks {prefix + missing[0]!r}.")
    with torch.no_grad():
        return (conv.binarize_weight(conv.weight) if conv.binarize_weight.is_pm1 else conv.weight) >= 0


def _iteration(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])
