# SPDX-License-Identifier: Apache-2.0
"""Which tensors a file must hold, and with which shapes and dtypes; all of it is checked before one is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d, PackedConfig, geometry_of

from .codecs import Part, codec_named
from .header import Encoded

DTYPES = {"U8": torch.uint8, "I8": torch.int8, "I32": torch.int32, "I64": torch.int64, "BOOL": torch.bool,
          "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}  # fmt: skip
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def join_names(layer: str, name: str) -> str:
    """The name of a part of a layer in the state dict; the model itself has the name ''."""
    return f"{layer}.{name}" if layer else name


def read_configs(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, PackedConfig]:
    """The packed layers that a header describes.

    Raises:
        LMBError: If there is none, or a value is not allowed.
    """
    if not layers:
        raise LMBError("layers: {} is not allowed. Allowed: one object for each layer.")
    configs = {}
    for name, values in layers.items():
        try:
            words: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            config = PackedConfig(**words)
            if config.skip and not config.keeps_shape:
                raise LMBError("skip: True is not allowed where input and output differ in shape.")
        except (LMBError, TypeError) as error:
            raise LMBError(f"layer {name!r}: {error}") from None
        configs[name] = config
    return configs


def packed_parts(configs: Mapping[str, PackedConfig]) -> dict[str, Part]:
    """The tensors of the packed layers, by name in the state dict."""
    return {
        join_names(layer, name): Part(shape, (torch.uint8 if name == "weight_packed" else torch.float32,))
        for layer, config in configs.items()
        for name, shape in config.shapes.items()
    }


def other_parts(
    model: nn.Module, configs: Mapping[str, PackedConfig], encoded: Mapping[str, Encoded]
) -> dict[str, Part]:
    """The tensors of the network outside the packed layers, by name in the state dict; encoded ones part by part.

    Raises:
        LMBError: If what the header calls encoded has no place, or its words are not allowed.
    """
    inside = tuple(join_names(layer, "") for layer in configs)
    outside = {name: value for name, value in model.state_dict().items() if not name.startswith(inside)}
    parts = {}
    for name, tensor in outside.items():
        if not isinstance(tensor, Tensor):
            raise LMBError(f"{name!r}: the network's state has {type(tensor).__name__} there. Allowed: tensors.")
        shape = tuple(tensor.shape)
        if name not in encoded:
            parts[name] = Part(shape, _FLOATS if tensor.is_floating_point() else (tensor.dtype,))
            continue
        try:
            stored = codec_named(encoded[name].codec).parts(encoded[name].words, shape)
        except LMBError as error:
            raise type(error)(f"tensor {name!r}: {error}") from None
        parts |= {join_names(name, part): spec for part, spec in stored.items()}
    for name in encoded:
        if name not in outside:
            raise LMBError(f"encoded: tensor {name!r} has no place in the network.")
    return parts


def check_parts(file: Any, parts: Mapping[str, Part], *, all_of_them: bool) -> None:
    """Compares tensors with what a safetensors file says of them, without reading one.

    Args:
        file: What ``safe_open`` gives.
        parts: The tensors by name.
        all_of_them: Whether the file may hold no other.

    Raises:
        LMBError: At the first that is missing, differs, or has no place.
    """
    names = set(file.keys())
    for name, part in parts.items():
        if name not in names:
            raise LMBError(f"tensor {name!r} is missing.")
        found = file.get_slice(name)
        shape, dtype = tuple(found.get_shape()), DTYPES.get(found.get_dtype())
        if shape != part.shape or dtype not in part.dtypes:
            allowed = f"{' or '.join(map(str, part.dtypes))} {part.shape}"
            raise LMBError(f"tensor {name!r}: {found.get_dtype()} {shape} is not allowed. Allowed: {allowed}.")
    foreign = sorted(names - parts.keys())
    if all_of_them and foreign:
        raise LMBError(f"tensor {foreign[0]!r} has no place in the network.")


def check_places(model: nn.Module, configs: Mapping[str, PackedConfig]) -> None:
    """Compares the packed layers with the convolutions whose place they take.

    Raises:
        LMBError: If a layer has no place or does not fit it, a place would be taken by two, or a convolution of the
            network is binary and no packed layer takes its place.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    takers: dict[nn.Module, PackedConfig] = {}
    for name, config in configs.items():
        old = modules.get(name)
        if not isinstance(old, (nn.Conv2d, PackedBinaryConv2d)):
            raise LMBError(f"layer {name!r}: the network has no convolution there, but {type(old).__name__}.")
        for key, allowed in _geometry(old).items():
            if getattr(config, key) != allowed:
                raise LMBError(f"layer {name!r}: {key}: {getattr(config, key)!r} does not fit. Allowed: {allowed!r}.")
        if takers.setdefault(old, config) != config:
            raise LMBError(f"layer {name!r}: the network has one convolution at two names, the file has two.")
    for name, old in modules.items():
        if isinstance(old, (BinaryConv2d, PackedBinaryConv2d)) and old not in takers:
            raise LMBError(f"layer {name!r}: it is binary in the network, and float in the file.")


def _geometry(old: nn.Conv2d | PackedBinaryConv2d) -> dict[str, Any]:
    if isinstance(old, PackedBinaryConv2d):
        keys = ("in_channels", "out_channels", "groups", "kernel_size", "stride", "dilation", "padding")
        return {key: getattr(old.config, key) for key in keys}
    return geometry_of(old)


def check_tail_bits(configs: Mapping[str, PackedConfig], tensors: Mapping[str, Tensor]) -> None:
    """Checks that the bits beyond each tap's last channel are 0.

    Raises:
        LMBError: If one is not.
    """
    for layer, config in configs.items():
        inputs = config.in_channels // config.groups
        name = join_names(layer, "weight_packed")
        last = tensors[name].reshape(-1, -(-inputs // 8))[:, -1]
        if inputs % 8 and bool((last >> inputs % 8).any()):
            raise LMBError(f"tensor {name!r}: bits beyond the last channel are set. Allowed: 0.")


def check_aliases(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Checks that a module of the network that has several names has the same tensors at all of them.

    Raises:
        LMBError: If it has not.
    """
    first: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        other = first.setdefault(module, name)
        prefix = join_names(name, "")
        for key in [key for key in tensors if other != name and key.startswith(prefix)]:
            twin = join_names(other, key.removeprefix(prefix))
            if twin not in tensors or not _same_bytes(tensors[twin], tensors[key]):
                raise LMBError(f"tensors {twin!r} and {key!r} differ, and are one in the network.")


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(
        one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
    )
