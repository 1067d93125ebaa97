# SPDX-License-Identifier: Apache-2.0
"""Runs the whole analysis of networks on photographs: plain figures, no report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmb_quant.errors import LMBError
from lmb_quant.upscaling.network import evaluated, running

from .bits import Survival, real_colours, survival
from .capture import Reading, capture, read_sizes
from .colour import planes_at, regions_at
from .images import Inputs, Photograph
from .layers import Layer, find_layers
from .pictures import MapPicture, map_picture, shown_layers
from .regression import draw
from .sensitivity import WAYS as MEASURED
from .sensitivity import Bench, Effect
from .sources import Source
from .statistics import Spread, constant_maps, spread
from .thresholds import OWN, WAYS, Means, own_threshold
from .weights import Flips, WeightFigures, flips, weight_figures

Tell = Callable[[str, int, int], None]
"""Told what is done now, how many steps are done, and of how many."""


@dataclass(frozen=True)
class LayerFigures:
    """All that was measured at one layer.

    ``size`` is that of its input for one image, ``(C, H, W)``, empty where the layer did not run. ``spread`` is None
    and ``ways`` and ``effects`` are empty where ``words`` say why. ``real_colours`` are the image's planes
    reconstructed from the real activations, the bound for those from bits.
    """

    name: str
    kind: str
    roles: tuple[str, ...]
    is_body: bool
    size: tuple[int, ...]
    words: tuple[str, ...]
    spread: Spread | None
    ways: dict[str, Survival]
    real_colours: dict[str, float]
    effects: dict[str, Effect]
    weights: WeightFigures | None


@dataclass(frozen=True)
class NetworkFigures:
    """All that was measured of one network; ``input_size`` is ``(N, C, H, W)``, ``upscale`` None for no SR."""

    label: str
    upscale: int | None
    input_size: tuple[int, ...]
    notes: tuple[str, ...]
    layers: tuple[LayerFigures, ...]
    flips: tuple[Flips, ...]
    pictures: tuple[MapPicture, ...]

    @property
    def body(self) -> list[LayerFigures]:
        """The layers that are binary or would be by the recipe ``lmb``, of which there are figures."""
        return [layer for layer in self.layers if layer.is_body and layer.spread is not None]

    @property
    def is_binary(self) -> bool:
        """Whether it has binary layers."""
        return any(layer.kind != "float" for layer in self.layers)


@dataclass(frozen=True)
class Analysis:
    """The figures of networks, side by side; ``photographs`` are the names of the images."""

    networks: tuple[NetworkFigures, ...]
    photographs: tuple[str, ...]


def analyze(
    sources: Sequence[Source],
    photographs: Sequence[Photograph],
    *,
    side: int | None = None,
    threads: int | None = None,
    tell: Tell = lambda text, done, total: None,
) -> Analysis:
    """Analyses networks.

    Args:
        sources: The networks.
        photographs: The images, one or more.
        side: Height and width of the networks' input, pixels; by default each network's own.
        threads: CPU threads; by default as many as PyTorch uses.
        tell: Is told how it goes on.

    Raises:
        LMBError: If a network has no convolution or does not run, or an image is too small.
    """
    if not photographs:
        raise LMBError("photographs: there are none. Allowed: one or more.")
    labels = [source.label for source in sources]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise LMBError(f"{twice!r} is named twice. Allowed: each network once, or labels of their own.")
    networks = tuple(_network(source, photographs, side, threads, tell) for source in sources)
    return Analysis(networks, tuple(photograph.name for photograph in photographs))


def _network(
    source: Source, photographs: Sequence[Photograph], side: int | None, threads: int | None, tell: Tell
) -> NetworkFigures:
    network = evaluated(source.network)
    inputs = source.inputs(photographs, side)
    layers, structure = find_layers(network, source.label, (1, *inputs.tensor.shape[1:]))
    with running(threads):
        sizes = read_sizes(network, layers, inputs.tensor, source.label)
        if not sizes:
            raise LMBError(f"{source.label}: none of its {len(layers)} convolutions ran. Allowed: one or more that do.")
        bench = Bench.of(network, source.label, inputs)
        walk = _Walk(inputs, bench, sizes, shown_layers([layer for layer in layers if layer.name in sizes]))
        for done, (layer, x) in enumerate(capture(network, layers, inputs.tensor, source.label, sizes)):
            tell(f"{source.label}: {layer.name}", done, len(sizes))
            walk.visit(layer, x)
        tell(source.label, len(sizes), len(sizes))
    notes = list(source.notes)
    if not structure.found:
        notes.append(f"Parts of the network were found {structure.how}.")
    if not bool(torch.isfinite(bench.result).all()):
        notes.append("Its result has NaN or infinities, so that no effect on it can be measured.")
    elif not any(effect.error > 0 for figures in walk.figures.values() for effect in figures.effects.values()):
        notes.append(
            "No layer's bits change its result: it is constant, or its last weights are 0 as before a training."
        )
    return NetworkFigures(
        label=source.label,
        upscale=source.upscale,
        input_size=tuple(inputs.tensor.shape),
        notes=tuple(notes),
        layers=tuple(walk.figures.get(layer.name) or _idle(layer) for layer in layers),
        flips=tuple(flips(source.checkpoints, layers)),
        pictures=tuple(walk.pictures),
    )


class _Walk:
    """Collects the figures, layer by layer."""

    def __init__(self, inputs: Inputs, bench: Bench, sizes: dict[str, Reading], shown: set[str]) -> None:
        self.inputs, self.bench, self.sizes, self.shown = inputs, bench, sizes, shown
        self.figures: dict[str, LayerFigures] = {}
        self.pictures: list[MapPicture] = []

    def visit(self, layer: Layer, x: Tensor) -> None:
        """Measures all there is of one layer; ``x`` are its activations, ``(N, C, H, W)``."""
        words = self._words(layer, x)
        if not bool(torch.isfinite(x).all()):
            self._keep(layer, x, words, None, {}, {}, {})
            return
        means = Means(x)
        thresholds = {way.name: way.make(means) for way in WAYS}
        own, reason = own_threshold(layer.module)
        if own is not None:
            thresholds[OWN] = own
        elif reason:
            words.append(f"{reason}.")
        size = (int(x.shape[2]), int(x.shape[3]))
        sample = draw(means, planes_at(self.inputs.rgb, size), regions_at(self.inputs.rgb, size))
        if sample.words:
            words.append(f"{sample.words}.")
        ways = {name: survival(threshold, means, sample) for name, threshold in thresholds.items()}
        if layer.name in self.shown and min(size) > 1:
            self.pictures.append(map_picture(layer, x, thresholds))
        self._keep(layer, x, words, spread(x), ways, real_colours(x, sample), self._effects(layer))

    def _words(self, layer: Layer, x: Tensor) -> list[str]:
        words = []
        runs = self.sizes[layer.name].runs
        if runs > 1:
            words.append(f"it runs {runs} times for an image; the figures are those of the first run.")
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            words.append(f"{bad:,} of its {x.numel():,} activations are NaN or infinite, so it has no figures.")
        if x.shape[2:].numel() > 1 and bool(constant_maps(x).all()):
            words.append("all its maps are constant: there is nothing in them to survive or to be lost.")
        if x.shape[2:].numel() == 1:
            words.append("its maps are of one pixel: nothing varies within them, and a local mean is the value itself.")
        return words

    def _effects(self, layer: Layer) -> dict[str, Effect]:
        if not bool(torch.isfinite(self.bench.result).all()):
            return {}
        ways = MEASURED if layer.is_body else MEASURED[:2]  # advice is about the others
        return {way: self.bench.effect(layer, way) for way in ways}

    def _keep(
        self,
        layer: Layer,
        x: Tensor,
        words: list[str],
        found: Spread | None,
        ways: dict[str, Survival],
        real: dict[str, float],
        effects: dict[str, Effect],
    ) -> None:
        self.figures[layer.name] = LayerFigures(
            name=layer.name,
            kind=layer.kind,
            roles=layer.roles,
            is_body=layer.is_body,
            size=tuple(x.shape[1:]),
            words=tuple(words),
            spread=found,
            ways=ways,
            real_colours=real,
            effects=effects,
            weights=weight_figures(layer.module),
        )


def _idle(layer: Layer) -> LayerFigures:
    words = ("it did not run for these images, so it has no figures.",)
    kept = (layer.name, layer.kind, layer.roles, layer.is_body)
    return LayerFigures(*kept, (), words, None, {}, {}, {}, weight_figures(layer.module))
