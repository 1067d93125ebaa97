# SPDX-License-Identifier: Apache-2.0
"""save() and load(): packed networks as safetensors files; docs/bit_layout.md is the specification."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lmb_quant import archs
from lmb_quant.convert import ready
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d, PackedConfig

FORMAT_VERSION = 1
_KEY = "lmb_quant"
_MAX_HEADER = 16 << 20
_MAX_COUNT = 1 << 16
_ARCHS: dict[str, type[nn.Module]] = {"LMBSRResNet": archs.LMBSRResNet, "LMBVDSR": archs.LMBVDSR}
_DTYPES = {"U8": torch.uint8, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
           "F64": torch.float64, "I32": torch.int32, "BOOL": torch.bool}  # fmt: skip


def save(model: nn.Module, path: str | Path) -> None:
    """Writes a packed network: its tensors, each layer's configuration and, for lmb_quant.archs, the architecture.

    Args:
        model: What :func:`lmb_quant.convert` returned.
        path: The safetensors file; an existing one is replaced once the new one is complete.

    Raises:
        LMBError: If the network has no packed layer, or a binary one that is not packed.
    """
    layers = {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, PackedBinaryConv2d)}
    if not layers or any(isinstance(m, BinaryConv2d) for m in model.modules()):
        raise LMBError("model: it is not packed. Use convert() first.")
    name = type(model).__name__
    known = _ARCHS.get(name) is type(model)
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "package_version": _package_version(),
        "arch": {"type": name, "args": dict(getattr(model, "arch_args", {}))} if known else None,
        "layers": {n: asdict(m.config) for n, m in layers.items()},
    }
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in model.state_dict().items()}
    header["sha256"] = _checksum(header, tensors)
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, {_KEY: json.dumps(header, sort_keys=True)})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Reads a packed network. The file may come from anywhere: it is checked before memory is taken for it.

    Args:
        path: A file of :func:`save`.
        model: For a network that is not of lmb_quant.archs: the same network, float or binary; its convolutions are
            replaced in place. By default the network is made from the architecture that the file names.

    Returns:
        The network in eval mode, on the CPU; its parameters ask for no gradient.

    Raises:
        LMBError: If the file is truncated, damaged, foreign, of another format version, or does not fit the network.
        OSError: If it cannot be read.
    """
    path = Path(path)
    _check_size(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, file.metadata())
            configs = _configs(path, header)
            _check_tensors_of_layers(path, configs, file)
            if model is None:
                model = _build(path, header)
            layers = _placed(path, model, configs)
            _check_rest(path, model, configs, file)
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise LMBError(f"{path}: it is not a safetensors file, or it is damaged: {error}.") from None
    if header.get("sha256") != _checksum({k: v for k, v in header.items() if k != "sha256"}, tensors):
        raise LMBError(f"{path}: it is damaged: the contents do not have the checksum that the header gives.")
    _check_tail_bits(path, configs, tensors)
    for name, layer in layers.items():
        if not name:
            model = layer
            continue
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    model.load_state_dict(tensors, assign=True)
    return ready(model)


def _package_version() -> str:
    try:
        return version("lmb-quant")
    except PackageNotFoundError:
        return "unknown"


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise LMBError(f"{path}: it is not a safetensors file, or it is truncated ({size:,} bytes).")


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})[_KEY])
    except KeyError:
        raise LMBError(f"{path}: it is a safetensors file, but not one of lmb_quant.save().") from None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise LMBError(f"{path}: its header is damaged.")
    found = header.get("format_version")
    if found != FORMAT_VERSION or isinstance(found, bool):
        raise LMBError(f"{path}: format_version: {found!r} is not known here. Allowed: {FORMAT_VERSION}.")
    return header


def _configs(path: Path, header: Mapping[str, Any]) -> dict[str, PackedConfig]:
    layers = header.get("layers")
    if not isinstance(layers, dict) or not layers:
        raise LMBError(f"{path}: layers: {type(layers).__name__} is not allowed. Allowed: one object for each layer.")
    configs = {}
    for name, values in layers.items():
        try:
            words: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            configs[name] = PackedConfig(**words)
        except (LMBError, TypeError, AttributeError) as error:
            raise LMBError(f"{path}: layer {name!r}: {error}") from None
    return configs


def _join(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name


def _check_shape(path: Path, file: Any, name: str, shape: tuple[int, ...], dtype: torch.dtype | None) -> None:
    part = file.get_slice(name)
    found, found_dtype = tuple(part.get_shape()), _DTYPES.get(part.get_dtype())
    if found != shape or found_dtype is None or (dtype is not None and found_dtype != dtype):
        allowed = f"{dtype or 'any number'} {shape}"
        raise LMBError(f"{path}: tensor {name!r}: {part.get_dtype()} {found} is not allowed. Allowed: {allowed}.")


def _check_tensors_of_layers(path: Path, configs: Mapping[str, PackedConfig], file: Any) -> None:
    names = set(file.keys())
    for layer, config in configs.items():
        for part, shape in config.shapes.items():
            name = _join(layer, part)
            if name not in names:
                raise LMBError(f"{path}: tensor {name!r} is missing.")
            _check_shape(path, file, name, shape, torch.uint8 if part == "weight_packed" else torch.float32)


def _build(path: Path, header: Mapping[str, Any]) -> nn.Module:
    """The float network that the file names, without memory for its tensors."""
    arch = header.get("arch")
    if arch is None:
        raise LMBError(f"{path}: it names no architecture of lmb_quant.archs. Give the network: load(path, model=...).")
    if not isinstance(arch, dict) or not isinstance(arch.get("args"), dict) or not isinstance(arch.get("type"), str):
        raise LMBError(f"{path}: arch: {arch!r} is not allowed. Allowed: type and args.")
    args = arch["args"]
    if arch["type"] not in _ARCHS:
        raise LMBError(f"{path}: {unknown_name('arch', arch['type'], _ARCHS)}")
    limit = len(header["layers"]) + 1  # blocks and convolutions, each of which has a packed layer or more
    for key, value in args.items():
        high = limit if key in ("num_block", "num_conv") else _MAX_COUNT
        plain = isinstance(value, (int, float)) and abs(value) <= high
        if key == "recipe" or not (plain or (key == "tail" and isinstance(value, str))):
            raise LMBError(f"{path}: arch: {key}: {value!r} is not allowed. Allowed: numbers up to {high}.")
    try:
        with torch.device("meta"):
            return _ARCHS[arch["type"]](**args, recipe=None)
    except (LMBError, TypeError) as error:
        raise LMBError(f"{path}: arch: {error}") from None


def _placed(path: Path, model: nn.Module, configs: Mapping[str, PackedConfig]) -> dict[str, PackedBinaryConv2d]:
    """The packed layers, without memory for their tensors; each has a convolution to take the place of."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, config in configs.items():
        old = modules.get(name)
        if not isinstance(old, (nn.Conv2d, PackedBinaryConv2d)):
            raise LMBError(f"{path}: layer {name!r}: the network has no convolution there, but {type(old).__name__}.")
        sizes = (old.in_channels, old.out_channels) if isinstance(old, nn.Conv2d) else _sizes(old.config)
        if sizes != _sizes(config):
            raise LMBError(f"{path}: layer {name!r}: channels {_sizes(config)} do not fit. Allowed: {sizes}.")
    return {name: PackedBinaryConv2d(config, device="meta") for name, config in configs.items()}


def _sizes(config: PackedConfig) -> tuple[int, int]:
    return config.in_channels, config.out_channels


def _check_rest(path: Path, model: nn.Module, configs: Mapping[str, PackedConfig], file: Any) -> None:
    """Every tensor of the network outside the packed layers is in the file with its shape, and nothing else."""
    packed = {_join(layer, part) for layer, config in configs.items() for part in config.shapes}
    inside = tuple(_join(layer, "") for layer in configs)
    rest = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(inside)}
    names = set(file.keys())
    missing, foreign = sorted(rest.keys() - names), sorted(names - rest.keys() - packed)
    if missing:
        raise LMBError(f"{path}: tensor {missing[0]!r} is missing.")
    if foreign:
        raise LMBError(f"{path}: tensor {foreign[0]!r} has no place in the network.")
    for name, tensor in rest.items():
        _check_shape(path, file, name, tuple(tensor.shape), None)


def _check_tail_bits(path: Path, configs: Mapping[str, PackedConfig], tensors: Mapping[str, Tensor]) -> None:
    for layer, config in configs.items():
        inputs = config.in_channels // config.groups
        name = _join(layer, "weight_packed")
        last = tensors[name].reshape(-1, -(-inputs // 8))[:, -1]
        if inputs % 8 and bool((last >> inputs % 8).any()):
            raise LMBError(f"{path}: tensor {name!r}: bits beyond the last channel are set. Allowed: 0.")
