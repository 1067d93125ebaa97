# SPDX-License-Identifier: Apache-2.0
"""Which network a user means, and what it is given: a zoo name, files, an experiment, a timm name, a module."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, named_reason
from lmb_quant.files import expanded, is_file, is_folder
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.serialize import from_pretrained, load_named
from lmb_quant.upscaling.network import evaluated, find_traits, noise, running
from lmb_quant.zoo import network_names

from .images import Inputs, Photograph, lr_inputs, square_inputs

TIMM = "timm/"
FORMS = (
    "a name that lmb-quant zoo lists, a packed file (.safetensors), an option file (.yml), OPTIONS.yml:WEIGHTS.pth, a "
    "checkpoint (.pth) or the folder of a training, timm/NAME, timm/NAME:WEIGHTS"
)

_OPTION_ENDINGS, _WEIGHT_ENDINGS = (".yml", ".yaml"), (".pth", ".pt", ".bin", ".safetensors")
_LR_SIDE, _LARGEST_SIDE, _TRIAL = 64, 96, 24


@dataclass(frozen=True, eq=False)
class Source:
    """A network to analyse, and how photographs become its input.

    ``upscale`` is the SR factor; None for a network whose result is no image. ``side`` is that of its input, pixels.
    ``mean`` and ``deviation`` normalise the input of the latter. ``notes`` are words for the report, ``checkpoints``
    those of its training, the oldest first.
    """

    label: str
    network: nn.Module
    upscale: int | None
    channels: int
    side: int
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    notes: tuple[str, ...] = ()
    checkpoints: tuple[Path, ...] = ()

    @property
    def is_binary(self) -> bool:
        """Whether it has binary layers."""
        return any(isinstance(module, (BinaryConv2d, PackedBinaryConv2d)) for module in self.network.modules())

    def inputs(self, photographs: Sequence[Photograph], side: int | None = None) -> Inputs:
        """Makes the network's input of photographs.

        Raises:
            LMBError: If a photograph is too small.
        """
        if self.upscale is not None:
            return lr_inputs(photographs, upscale=self.upscale, channels=self.channels, side=side or self.side)
        return square_inputs(
            photographs, side=side or self.side, channels=self.channels, mean=self.mean, deviation=self.deviation
        )


def source_of(model: str | nn.Module, label: str | None = None) -> Source:
    """Finds a network and what it is given.

    Args:
        model: A module, or the words of ``lmb-quant analyze``: see :data:`FORMS`.
        label: What the report calls it; by default the words, or the module's class.

    Raises:
        LMBError: If there is no such network, its weights do not fit, or it does not run on an image.
    """
    if isinstance(model, nn.Module):
        return _source(label or type(model).__name__, model)
    if model in network_names():
        return _source(label or model, from_pretrained(model))
    path, weights = _split(model)
    if model.startswith(TIMM):
        return _timm(label or model, path.removeprefix(TIMM), weights)
    if is_folder(Path(path)) or (path.endswith(".pth") and is_file(Path(path))):
        return _experiment(label, Path(path))
    if path.endswith(_OPTION_ENDINGS):
        return _option_file(label, path, weights)
    if not is_file(Path(path)):
        raise LMBError(f"{model!r} is no network. Allowed: {FORMS}.")
    return _source(label or Path(path).stem, load_named(path))


def _split(model: str) -> tuple[str, Path | None]:
    path, colon, weights = model.rpartition(":")
    if not colon or not path or os.path.exists(model) or not weights.endswith(_WEIGHT_ENDINGS):
        return model, None
    return path, Path(weights)


def _option_file(label: str | None, path: str, weights: Path | None) -> Source:
    from lmb_quant.integrations.basicsr.checkpoint import entry_of, load_file, load_weights  # heavy and optional
    from lmb_quant.integrations.basicsr.networks import built_network
    from lmb_quant.integrations.basicsr.option_read import find_option_file, read_options

    network, channels = built_network(path)
    given = read_options(find_option_file(path)).get("path") or {}
    named = weights or given.get("pretrain_network_g")
    notes: tuple[str, ...] = ()
    if named is None:
        notes = ("Its weights are random: no trained ones were named (OPTIONS.yml:WEIGHTS.pth).",)
    else:
        file = expanded(named)
        if weights is None and "param_key_g" in given:  # it is said of the option file's weights
            key = given["param_key_g"]
        else:
            key = None if file.suffix == ".safetensors" else entry_of(load_file(file), file)
        load_weights(network, file, param_key=key)
    return _source(label or Path(path).stem, network, channels=channels, notes=notes)


def _experiment(label: str | None, path: Path) -> Source:
    from lmb_quant.integrations.basicsr.checkpoint import load_weights  # the host is heavy and optional
    from lmb_quant.integrations.basicsr.networks import built_network

    folder = path if is_folder(path) else path.parent.parent
    files = sorted(folder.glob("*.yml"))
    if len(files) != 1:
        raise LMBError(
            f"{path}: {folder} holds {len(files)} option files (.yml). Allowed: the folder of one training, a "
            "checkpoint in its models/, or OPTIONS.yml:WEIGHTS.pth."
        )
    numbered = [file for file in (folder / "models").glob("net_g_*.pth") if file.stem.rpartition("_")[2].isdigit()]
    checkpoints = sorted(numbered, key=lambda file: int(file.stem.rpartition("_")[2]))
    latest = folder / "models" / "net_g_latest.pth"
    chosen = path if is_file(path) else latest if is_file(latest) else checkpoints[-1] if checkpoints else None
    if chosen is None:
        raise LMBError(f"{folder}: its models/ holds no checkpoint (net_g_*.pth).")
    network, channels = built_network(str(files[0]))
    load_weights(network, chosen, param_key="params_ema")
    return _source(label or folder.name, network, channels=channels, checkpoints=tuple(checkpoints))


def _timm(label: str, name: str, weights: Path | None) -> Source:
    from lmb_quant.integrations.timm.networks import make_network  # the host is heavy and optional

    network, config = make_network(name, weights)
    notes = () if weights else ("Its weights are random: no trained ones were named (timm/NAME:WEIGHTS).",)
    channels, side, _ = config["input_size"]
    return Source(label, network.eval(), None, channels, side, tuple(config["mean"]), tuple(config["std"]), notes=notes)


def _source(
    label: str,
    network: nn.Module,
    *,
    channels: int | None = None,
    notes: tuple[str, ...] = (),
    checkpoints: tuple[Path, ...] = (),
) -> Source:
    """A network of unknown kind: what it makes of an image says which it is."""
    network = evaluated(network)
    with running():
        result = _trial(network, label, channels)
        if result[0].ndim != 4:
            return Source(label, network, None, result[1], _LR_SIDE, notes=notes, checkpoints=checkpoints)
        try:
            traits = find_traits(network)
        except LMBError as error:
            raise LMBError(f"{label}: {error}") from error
        largest = _largest_body_side(network, traits.channels)
    side = max(1, min(_LR_SIDE, _LARGEST_SIDE * _TRIAL // largest))
    return Source(label, network, traits.upscale, traits.channels, side, notes=notes, checkpoints=checkpoints)


def _trial(network: nn.Module, label: str, channels: int | None) -> tuple[Tensor, int]:
    problem = ""
    for count in [channels] if channels else (3, 1):
        for side in (_TRIAL, _LR_SIDE):
            try:
                result = network(noise(count, side))
            except Exception as error:  # any network may be given, and any may fail in its own way
                problem = problem or named_reason(error)
                continue
            if not isinstance(result, Tensor):
                kind = type(result).__name__
                raise LMBError(f"{label}: its result is {kind}. Allowed: a network whose result is a tensor.")
            return result, count
    raise LMBError(f"{label}: it does not run on an image (1, 3, {_TRIAL}, {_TRIAL}): {problem}")


def _largest_body_side(network: nn.Module, channels: int) -> int:
    """Of the maps that most layers read, the larger side, for an image of :data:`_TRIAL` pixels."""
    sides: list[int] = []

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        sides.append(max(args[0].shape[-2:]))

    convs = [m for m in network.modules() if isinstance(m, (nn.Conv2d, PackedBinaryConv2d, BinaryConv2d))]
    handles = [conv.register_forward_pre_hook(note) for conv in convs]
    try:
        network(noise(channels, _TRIAL))
    finally:
        for handle in handles:
            handle.remove()
    return int(torch.tensor(sides).median()) if sides else _TRIAL
