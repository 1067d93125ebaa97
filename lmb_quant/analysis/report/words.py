# SPDX-License-Identifier: Apache-2.0
"""What was found, in words; every number in them is a measured one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lmb_quant.analysis.measure import Analysis, NetworkFigures
from lmb_quant.analysis.summary import Summary, ranking, summarize
from lmb_quant.analysis.thresholds import OWN, TITLES

GAP = "–"


def number(value: float, digits: int = 2) -> str:
    """A number, or a dash for one that could not be measured."""
    return f"{value:.{digits}f}" if math.isfinite(value) else GAP


def percent(value: float) -> str:
    """A share in percent, or a dash."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else GAP


def paragraph(analysis: Analysis) -> str:
    """What was found: a line for each network."""
    return "\n".join(" ".join(_of_network(network)) for network in analysis.networks)


def _of_network(network: NetworkFigures) -> Iterator[str]:
    found = summarize(network)
    if not found.layers:
        yield f"{network.label}: none of its layers that would be binary has figures."
        return
    yield (
        f"{network.label}: of the variance of the activations, {percent(found.shares['pixels'])} is over pixels within "
        f"a channel, {percent(found.shares['channels'])} over channels and {percent(found.shares['images'])} over "
        f"images (means over {found.layers} layers)."
    )
    low, high = found.deviations
    if low > 0:
        yield f"From layer to layer the standard deviation differs by a factor of {number(high / low, 1)}."
    yield from _survival(found)
    yield from _effects(network, found)


def _survival(found: Summary) -> Iterator[str]:
    parts = [
        f"{percent(found.ways[name].explained)} by {TITLES[name]}"
        for name in ("zero", "shift", "global", "local3", "gain3", OWN)
        if name in found.ways and math.isfinite(found.ways[name].explained)
    ]
    if not parts:
        return
    yield f"A linear map recovers from the bits {_listed(parts)} of the features' variance,"
    details = [f"{percent(found.ways[name].detail)} by {TITLES[name]}" for name in ("zero", "local3", "gain3")]
    yield f"and of their local detail {_listed(details)}."
    zero, local = found.ways["zero"], found.ways["local3"]
    yield (
        f"{percent(zero.constant)} of the maps become constant by zero, {percent(local.constant)} by the local mean. "
        f"In flat regions {percent(zero.regions['flat'])} survive by zero and {percent(local.regions['flat'])} by the "
        f"local mean, at edges {percent(zero.regions['edges'])} and {percent(local.regions['edges'])}."
    )
    if local.regions["flat"] < 0:
        yield "(Below 0 %, what the map learned from other pixels misleads.)"


def _effects(network: NetworkFigures, found: Summary) -> Iterator[str]:
    first = next(iter(ranking(network)), None)
    if first is None:
        return
    what = "with other bits than its own" if first.kind != "float" else "with its activations as bits"
    yield (
        f"The result suffers most from {first.name}{_role(first.roles)} {what}: its error is "
        f"{number(first.effects['zero'].error, 3)} of the result's standard deviation by zero and "
        f"{number(first.effects['local3'].error, 3)} by the local mean; the mean over the layers is "
        f"{number(found.errors['zero'], 3)} and {number(found.errors['local3'], 3)}."
    )


def _role(roles: tuple[str, ...]) -> str:
    return f" ({', '.join(roles)})" if roles else ""


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
