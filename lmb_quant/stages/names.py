# SPDX-License-Identifier: Apache-2.0
"""Stages in the words of a file: modules by their names, tensors by theirs in the state dict."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops.binary_conv2d.spec import packed_act

from .stage import Act, Add, AddUpscaled, Binary, Conv, Range, Shuffle, Stage, Upscale

_PLAIN: dict[type[Stage], str] = {
    Range: "range",
    Add: "add",
    Shuffle: "shuffle",
    AddUpscaled: "add_upscaled",
    Upscale: "upscale",
}


def described(model: nn.Module) -> list[dict[str, Any]] | None:
    """The stages of a network as JSON holds them, specified in docs/bit_layout.md; None where it has none.

    Args:
        model: Any network; only one with a method ``stages`` has stages.
    """
    stages = getattr(type(model), "stages", None)
    if not callable(stages):
        return None
    try:
        return [_words(stage, model) for stage in stages(model)]
    except LMBError:
        return None


def _words(stage: Stage, model: nn.Module) -> dict[str, Any]:
    for kind, word in _PLAIN.items():
        if type(stage) is kind:
            return {"kind": word, **asdict(stage)}
    if isinstance(stage, Act):
        return {"kind": "act", "act": _act(stage.act, model)}
    assert isinstance(stage, (Conv, Binary))
    name = next(name for name, module in model.named_modules() if module is stage.layer)
    if isinstance(stage, Binary):
        return {"kind": "binary", "layer": name}
    layer = stage.layer
    return {
        "kind": "conv",
        "layer": name,
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size[0],
        "groups": layer.groups,
        "bias": layer.bias is not None,
        "act": _act(stage.act, model),
        "skip": stage.skip,
    }


def _act(act: nn.Module | None, model: nn.Module) -> dict[str, Any]:
    """The function's name, and each value: a number, or the name of its tensor."""
    if act is None:
        return {"kind": "none"}
    kind, values = packed_act(act)
    return {"kind": kind, **{name: _value(value, model) for name, value in values.items()}}


def _value(value: Tensor, model: nn.Module) -> float | str:
    for name, tensor in model.named_parameters():
        if tensor is value:
            return name
    if value.numel() != 1:
        raise LMBError("act: its values are no parameter of the network.")
    return float(value)
