# SPDX-License-Identifier: Apache-2.0
"""The activations that convolutions read, taken from runs on real images, a few layers at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, reason

from .layers import Layer

BUDGET = 256 << 20
"""Bytes of activations that are kept at a time; one layer's are kept in any case."""

_BATCH = 4


@dataclass(frozen=True)
class Reading:
    """What a layer read: size of its input for one image, and how often it ran for it."""

    size: tuple[int, ...]
    runs: int


def run_network(network: nn.Module, inputs: Tensor, label: str) -> Tensor:
    """Runs a network on ``(N, C, H, W)``, a few images at a time.

    Raises:
        LMBError: If it does not run, or its result is no tensor.
    """
    results = []
    for part in inputs.split(_BATCH):
        try:
            result = network(part.clone())
        except (RuntimeError, LMBError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise LMBError(f"{label}: it does not run on images of {tuple(part.shape)}: {reason(error)}") from error
        if not isinstance(result, Tensor):
            kind = type(result).__name__
            raise LMBError(f"{label}: its result is {kind}. Allowed: a network whose result is a tensor.")
        results.append(result)
    return torch.cat(results)


def read_sizes(network: nn.Module, layers: Sequence[Layer], inputs: Tensor, label: str) -> dict[str, Reading]:
    """Runs once on the first image and notes what each layer reads; layers that did not run are missing.

    Args:
        network: The network, in eval mode.
        layers: Its layers.
        inputs: ``(N, C, H, W)``.
        label: What messages call it.
    """
    found: dict[str, Reading] = {}

    def note(layer: Layer, x: Tensor) -> None:
        before = found.get(layer.name)
        found[layer.name] = Reading(tuple(x.shape[1:]), 1 if before is None else before.runs + 1)

    with _taps(layers, note):
        run_network(network, inputs[:1], label)
    return found


def capture(
    network: nn.Module, layers: Sequence[Layer], inputs: Tensor, label: str, sizes: dict[str, Reading]
) -> Iterator[tuple[Layer, Tensor]]:
    """Yields each layer that runs with its activations ``(N, C, H, W)``, float32.

    Memory is bounded: the network runs again for each group of layers that fits into :data:`BUDGET`. Of a layer that
    runs several times for an image, the first run counts.
    """
    for group in _groups([layer for layer in layers if layer.name in sizes], sizes, len(inputs)):
        kept: dict[str, list[Tensor]] = {layer.name: [] for layer in group}
        runs = dict.fromkeys(kept, 0)

        def keep(layer: Layer, x: Tensor, kept: dict[str, list[Tensor]] = kept, runs: dict[str, int] = runs) -> None:
            if runs[layer.name] % sizes[layer.name].runs == 0:
                kept[layer.name].append(x.detach().float().clone())
            runs[layer.name] += 1

        with _taps(group, keep):
            run_network(network, inputs, label)
        for layer in group:
            yield layer, torch.cat(kept.pop(layer.name))


def _groups(layers: Sequence[Layer], sizes: dict[str, Reading], images: int) -> Iterator[list[Layer]]:
    group: list[Layer] = []
    total = 0
    for layer in layers:
        count = 4 * images * torch.Size(sizes[layer.name].size).numel()
        if group and total + count > BUDGET:
            yield group
            group, total = [], 0
        group.append(layer)
        total += count
    if group:
        yield group


@contextmanager
def _taps(layers: Sequence[Layer], note: Callable[[Layer, Tensor], None]) -> Iterator[None]:
    def hook(layer: Layer) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0]
            note(layer, x if x.ndim == 4 else x[None])

        return before

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.tap.register_forward_pre_hook(hook(layer)).remove)
        yield
