# SPDX-License-Identifier: Apache-2.0
"""State dicts that say what network they are of: one tensor of theirs is a file's header.

spandrel and what loads by it pass on tensors alone, and no tensor says how far a local mean reaches.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lmb_quant.archs import ARCHITECTURES, architecture_of
from lmb_quant.errors import LMBError
from lmb_quant.files import check_writable, write_atomically
from lmb_quant.modules import PackedBinaryConv2d, binary_convs
from lmb_quant.packed_file import KEY, Arch, build
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import recipe_of
from lmb_quant.serialize import load, save
from lmb_quant.strict_data import validate
from lmb_quant.wrappers import unwrapped

HEADER = "lmb_quant_header"
"""The tensor's name; uint8, one dimension, JSON in UTF-8."""

_MAX_HEADER = 16 << 20
_FILE = "net.safetensors"


class _Training(BaseModel):
    """The header of a training form."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    form: str
    arch: Arch
    recipe: dict[str, Any]


def save_described(model: nn.Module, path: str | Path) -> None:
    """Writes a network for loaders that pass on tensors alone, such as ComfyUI's.

    Args:
        model: Packed, or the training form of one of lmb_quant.archs.
        path: The safetensors file; an existing one is replaced once the new one is complete. It is for spandrel;
            :func:`lmb_quant.load` reads the files of :func:`lmb_quant.save`.

    Raises:
        LMBError: If the network is float, has no packed form that can be stored, is a training form of another
            architecture or of a recipe that is not known; or the file cannot be written.
    """
    path, model = Path(path), unwrapped(model)
    check_writable(path)
    if any(isinstance(module, PackedBinaryConv2d) for module in model.modules()):
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder) / _FILE
            save(model, packed)
            state = state_of_packed(packed)
        assert state is not None
    else:
        state = _state_of_training(model)
    write_atomically(path, to_bytes(state))


def state_of_packed(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file of :func:`lmb_quant.save` and its header as one more; None of another safetensors file."""
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(KEY)
    return None if text is None else load_file(path) | {HEADER: _tensor_of(text)}


def network_of(state: Mapping[str, Tensor], model: nn.Module | None = None) -> nn.Module:
    """The network of a state dict with a header, in eval mode, on the CPU.

    Args:
        state: The tensors.
        model: The float network where a packed one names no architecture.

    Raises:
        UnknownArchitectureError: If it names none and there is no ``model``.
        LMBError: If the header is damaged, or the network cannot be made of it, as in :func:`lmb_quant.load`.
    """
    text, tensors = text_of(state), tensors_of(state)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise LMBError(f"{HEADER}: it is damaged: it is no JSON.") from None
    if isinstance(data, dict) and data.get("form") == "training":
        return _of_training(validate(_Training, data, HEADER), tensors)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(to_bytes(tensors, {KEY: text}))
        try:
            return load(path, model)
        except LMBError as error:
            raise type(error)(str(error).removeprefix(f"{path}: ")) from None


def text_of(state: Mapping[str, Tensor]) -> str:
    """The JSON of a header.

    Raises:
        LMBError: If the tensor is none.
    """
    tensor = state[HEADER]
    if tensor.dtype != torch.uint8 or tensor.ndim != 1 or tensor.numel() > _MAX_HEADER:
        raise LMBError(
            f"{HEADER}: {tensor.dtype} {tuple(tensor.shape)} is not allowed. Allowed: uint8, one dimension, at most "
            f"{_MAX_HEADER:,} bytes."
        )
    try:
        return tensor.cpu().numpy().tobytes().decode()
    except UnicodeDecodeError:
        raise LMBError(f"{HEADER}: it is damaged: it is no UTF-8.") from None


def tensors_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's own tensors, on the CPU."""
    return {name: tensor.cpu() for name, tensor in state.items() if name != HEADER}


def _state_of_training(model: nn.Module) -> dict[str, Tensor]:
    arch, recipe = architecture_of(model), recipe_of(model)
    if not any(binary_convs(model)):
        raise LMBError("model: it is a float network. Allowed: a packed one, or a training form.")
    if arch is None or recipe is None:
        raise LMBError(
            f"model: a training form of {type(model).__name__} cannot be made again. Allowed: one of "
            f"{', '.join(ARCHITECTURES)} whose recipe is known; or pack it: convert()."
        )
    header = _Training(
        form="training",
        arch=Arch(type=arch.name, args=dict(getattr(model, "arch_args", {}))),
        recipe=recipe.to_dict(),
    )
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    return state | {HEADER: _tensor_of(header.model_dump_json())}


def _of_training(header: _Training, tensors: dict[str, Tensor]) -> nn.Module:
    build(header.arch, len(tensors))  # its checks, before memory is taken
    network = ARCHITECTURES[header.arch.type].make(**header.arch.args, recipe=Recipe.load(header.recipe))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise LMBError(f"{HEADER}: the tensors do not fit {header.arch.type}: {' '.join(str(error).split())}") from None
    return network.eval()


def _tensor_of(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
