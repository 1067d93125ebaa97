# SPDX-License-Identifier: Apache-2.0
"""A recipe that spares the layers which lose most, with the measured reason beside each."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmb_quant.errors import LMBError
from lmb_quant.recipe import Recipe
from lmb_quant.strict_yaml import dump_yaml

from .layers import KEPT_FLOAT
from .measure import LayerFigures, NetworkFigures
from .sources import Source
from .thresholds import TITLES

FRAGILE = 2.0
"""A layer is fragile if its bits cost the result more than this many times the median over all layers."""

_WIDE, _GAIN = "local7", "gain3"
_LOCAL: dict[str, Any] = {"binarizer": "local_mean", "window": 3}


@dataclass(frozen=True)
class Decision:
    """What a fragile layer gets: ``float``, ``window`` or ``gain``; ``changes`` are the override's keys."""

    layer: str
    kind: str
    changes: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Advice:
    """A recipe as YAML with comments, and the decisions in it."""

    text: str
    decisions: tuple[Decision, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return Recipe.load(self.text)


def advise(network: NetworkFigures, recipe: Recipe | str | Path = "lmb") -> Advice:
    """Changes a recipe where a float network's layers lose most.

    A layer is fragile if its activations' bits, made as the recipe makes them, change the result by more than
    :data:`FRAGILE` times the median over the layers. It gets a window of 7 pixels or a gain, whichever costs less, if
    that brings it below the bound; else it stays float.

    Args:
        network: Figures of a float network.
        recipe: The plain recipe; its activation binariser is ``sign``, or ``local_mean`` with a window of 3 or 7.

    Raises:
        LMBError: As :func:`check_advisable`, or if no effect on the network's result was measured.
    """
    check_advisable(network, recipe)
    plain = Recipe.load(recipe)
    way = _way_of(plain)
    layers = [layer for layer in network.body if math.isfinite(_error(layer, way))]
    if not layers:
        raise LMBError(f"--advise: {network.label}: no layer that the recipe makes binary has a measured effect.")
    if not any(_error(layer, way) for layer in layers):
        raise LMBError(f"--advise: {network.label}: no layer's bits change its result. Allowed: a trained network.")
    median = statistics.median(_error(layer, way) for layer in layers)
    decisions = tuple(_decide(layer, way, median) for layer in layers if _error(layer, way) > FRAGILE * median)
    return Advice("\n".join(_lines(network, plain, layers, way, decisions)) + "\n", decisions)


def check_advisable(network: NetworkFigures | Source, recipe: Recipe | str | Path) -> None:
    """Checks what can be known before anything is measured.

    Args:
        network: What is to be binarised.
        recipe: The plain recipe.

    Raises:
        LMBError: If the network has binary layers, or there is no such recipe or its activation binariser is another
            one than :func:`advise` takes.
    """
    _way_of(Recipe.load(recipe))
    if network.is_binary:
        raise LMBError(
            f"--advise: {network.label} has binary layers. Allowed: a float network, which is to be binarised."
        )


def _way_of(recipe: Recipe) -> str:
    activation = recipe.scheme.activation
    if activation.binarizer == "sign":
        return "zero"
    if activation.binarizer == "local_mean" and activation.options.get("window", 3) in (3, 7):
        if activation.options.get("gain", "none") != "none":
            return _GAIN
        return f"local{activation.options.get('window', 3)}"
    raise LMBError(
        f"--advise: recipe {recipe.metadata.name!r}: activation {activation.binarizer!r} with {activation.options!r} "
        "is not allowed. Allowed: sign, or local_mean with window 3 or 7."
    )


def _error(layer: LayerFigures, way: str) -> float:
    effect = layer.effects.get(way)
    return math.nan if effect is None else effect.error


def _decide(layer: LayerFigures, way: str, median: float) -> Decision:
    remedies = {name: _error(layer, name) for name in (_WIDE, _GAIN) if name != way}
    tried = ", ".join(f"{error:.3f} with {TITLES[name]}" for name, error in remedies.items())
    own = _error(layer, way)
    factor = f"{own / median:.1f} times the median" if median > 0 else "where the median is 0"
    reason = f"its bits change the result by {own:.3f}, {factor}; {tried}"
    best = min(remedies, key=lambda name: remedies[name])
    if not remedies[best] <= FRAGILE * median:
        return Decision(layer.name, "float", {"skip_layer": True}, reason)
    if best == _WIDE:
        return Decision(layer.name, "window", {"activation": _LOCAL | {"window": 7}}, reason)
    return Decision(layer.name, "gain", {"activation": _LOCAL | {"shift": "channel", "gain": "channel"}}, reason)


def _lines(
    network: NetworkFigures, plain: Recipe, layers: list[LayerFigures], way: str, decisions: tuple[Decision, ...]
) -> Iterator[str]:
    medians = {
        name: statistics.median(values)
        for name in dict.fromkeys((way, "zero", "local3", _WIDE, _GAIN))
        if len(values := [e for layer in layers if math.isfinite(e := _error(layer, name))]) == len(layers)
    }
    yield f"# Recipe {plain.metadata.name} for {network.label}, changed where a layer's bits change the result most."
    yield "# The numbers are output errors: root mean square of the change over the result's standard deviation, of one"
    yield "# layer's activations replaced by bits, with no training after it. Their medians over the layers:"
    for name, value in medians.items():
        yield f"#   {value:.3f} {TITLES[name]}{' (this recipe)' if name == way else ''}"
    data = plain.to_dict()
    roles = {f"@{role}" for layer in network.layers for role in layer.roles}
    data["ignore"] = [p for p in data.get("ignore", []) if not p.startswith("@") or p in roles or p not in KEPT_FLOAT]
    before = data.pop("overrides", [])
    others = data.pop("others", [])
    data["metadata"] = {
        "name": f"{plain.metadata.name}-advised",
        "description": f"{plain.metadata.name}, with {len(decisions)} layers changed by measurement",
        "source": f"lmb-quant analyze --advise; {plain.metadata.source}",
    }
    yield dump_yaml(data, width=110).rstrip()
    if decisions or before:
        yield "overrides:"
    for decision in decisions:
        rule = {"match": _pattern(decision.layer), **decision.changes}
        yield f"  - {json.dumps(rule)}  # {decision.reason}"
    yield from (f"  - {json.dumps(rule)}" for rule in before)
    if others:
        yield dump_yaml({"others": others}, width=110).rstrip()
    if not decisions:
        yield f"# No layer is fragile: none costs more than {FRAGILE:g} times the median."


def _pattern(name: str) -> str:
    return f"re:{re.escape(name)}" if any(mark in name for mark in "*?[") else name
