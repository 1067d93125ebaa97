# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill at any moment and a full disk.

A checkpoint is the pair ``models/net_g_<iter>.pth`` and ``training_states/<iter>.state``, in BasicSR's own form. Every
file is written under another name, flushed to the disk and then renamed; the state comes last, so where it is, its
network is too. The older state of the same iteration is removed first: a pair never mixes two runs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from lmb_quant.errors import LMBError, reason, unknown_name
from lmb_quant.files import write_atomically
from lmb_quant.serialize import load
from lmb_quant.unpacking import unpack

_AVERAGE, _PLAIN = "params_ema", "params"


def save_atomically(value: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` by way of :func:`write_atomically`."""
    buffer = io.BytesIO()
    torch.save(dict(value), buffer)
    write_atomically(path, buffer.getvalue())


def load_file(path: Path) -> dict[str, Any]:
    """Loads a ``.pth`` or ``.state`` file onto the CPU; tensors and plain values only.

    Raises:
        LMBError: If there is no such file or it is not one.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LMBError(f"{path}: there is no such file.") from None
    except Exception as error:  # a foreign file can make the unpickler raise anything
        raise LMBError(f"{path}: is not a checkpoint, or is damaged: {reason(error)}") from None
    if not isinstance(value, dict):
        raise LMBError(f"{path}: a checkpoint is a mapping, not {type(value).__name__}.")
    return value


def made_by(opt: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change between a run and its continuation; plain values, kept in its states."""
    network = json.loads(json.dumps(opt["network_g"], default=str))
    return {"network_g": network, "train.optim_g.type": opt["train"]["optim_g"].get("type")}


def entry_of(content: Mapping[str, Any], path: Path, asked: str | None = None) -> str | None:
    """The entry of a checkpoint that holds the network.

    Args:
        content: The checkpoint.
        path: Its file, for messages.
        asked: The entry that the user names; by default ``params_ema``, the moving average, where it is there, else
            ``params``.

    Returns:
        The entry; None if the checkpoint is a bare state dict.

    Raises:
        LMBError: If there is no such entry, or the checkpoint is of another kind.
    """
    entries = [key for key in (_AVERAGE, _PLAIN) if key in content]
    if asked is not None:
        if asked not in entries:
            raise LMBError(f"{path}: {unknown_name('entry', asked, entries or map(str, list(content)[:8]))}")
        return asked
    if entries:
        return entries[0]
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return None
    hint = " It is a training state; the network is in models/net_g_<iteration>.pth." if "iter" in content else ""
    raise LMBError(
        f"{path}: it has neither {_AVERAGE!r} nor {_PLAIN!r}, and is no state dict of tensors. It has: "
        f"{', '.join(map(str, list(content)[:8]))}.{hint}"
    )


def load_weights(net: nn.Module, path: Path, *, param_key: str | None = "params", strict: bool = True) -> str | None:
    """Loads a network from a BasicSR checkpoint.

    Args:
        net: The network.
        path: ``.pth`` file, or a packed one, ``.safetensors``, whose training form gives the weights.
        param_key: ``params``, ``params_ema``, or None for a bare state dict. Where the file has no ``params_ema``,
            ``params`` is used.
        strict: Whether names and shapes must be those of the network. If not, what does not fit is left out.

    Returns:
        The key that was used; None with a packed file.

    Raises:
        LMBError: If the file is no checkpoint, or one of another architecture, or a packed one that has no training
            form.
    """
    if path.suffix == ".safetensors":
        content: dict[str, Any] = _unpacked(path)
        param_key = None
    else:
        content = load_file(path)
    if param_key is not None and param_key not in content:
        if "params" not in content or param_key != "params_ema":
            raise LMBError(f"{path}: has no entry {param_key!r}. It has: {', '.join(map(str, list(content)[:8]))}.")
        param_key = "params"
    weights = content if param_key is None else content[param_key]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise LMBError(f"{path}: its entry {param_key!r} is not a state dict of tensors.")
    consume_prefix_in_state_dict_if_present(weights, "module.")
    if not strict:
        own = net.state_dict()
        for key in [key for key in weights if key not in own or own[key].shape != weights[key].shape]:
            del weights[key]  # in place, for the state dict knows its modules' versions
        if not weights:
            raise LMBError(f"{path}: nothing in it fits {type(net).__name__}, neither by name nor by shape.")
    try:
        net.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        raise LMBError(f"{path}: does not fit {type(net).__name__}: {_differences(net, weights, error)}") from None
    return param_key


def _unpacked(path: Path) -> dict[str, Any]:
    try:
        network = load(path)
    except OSError as error:
        raise LMBError(f"{path}: it cannot be read: {error.strerror}.") from None
    try:
        return unpack(network).state_dict()
    except LMBError as error:
        raise LMBError(f"{path}: {error}") from None


def _differences(net: nn.Module, weights: Mapping[str, Tensor], error: RuntimeError) -> str:
    own = net.state_dict()
    wrong = [
        f"{key} has shape {tuple(weights[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    parts = [
        _some("the file lacks", [key for key in own if key not in weights]),
        _some("the network lacks", [key for key in weights if key not in own]),
        _some("", wrong),
    ]
    return "; ".join(part for part in parts if part) + "." if any(parts) else str(error)


def _some(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}".strip() if names else ""


def network_of(state: Path) -> Path:
    """The ``.pth`` file that belongs to a ``.state`` file."""
    return state.parent.parent / "models" / f"net_g_{state.stem}.pth"


def last_complete(states: Path) -> tuple[Path | None, list[str]]:
    """Finds the newest checkpoint of which both files are there and can be read.

    Args:
        states: The folder ``training_states``.

    Returns:
        The ``.state`` file, or None; and one line for each newer one that was passed over, with the reason.
    """
    skipped: list[str] = []
    found = [path for path in states.glob("*.state") if path.stem.isdigit()] if states.is_dir() else []
    for path in sorted(found, key=lambda path: int(path.stem), reverse=True):
        try:
            load_file(path)
            load_file(network_of(path))
        except LMBError as error:
            skipped.append(f"passed over {path.name}: {error}")
        else:
            return path, skipped
    return None, skipped
