# SPDX-License-Identifier: Apache-2.0
"""save(), load() and from_pretrained(): packed networks as safetensors files; docs/bit_layout.md specifies them."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lmb_quant.archs import architecture_of
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import check_writable, is_file, write_atomically
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d, PackedConfig, packed_convs_by_name
from lmb_quant.packed_file import (
    DTYPES,
    INT8_CHANNELS,
    KEY,
    Arch,
    Encoded,
    Header,
    build,
    check_aliases,
    check_parts,
    check_places,
    check_tail_bits,
    checksum,
    codec_for,
    decoded,
    from_text,
    join_names,
    other_parts,
    packed_parts,
    read_configs,
    to_text,
)
from lmb_quant.packing import for_inference
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import recipe_of, remember_recipe
from lmb_quant.stages import described
from lmb_quant.versions import package_version
from lmb_quant.wrappers import unwrapped, wrapped_parts
from lmb_quant.zoo import network_file, network_names

_MAX_HEADER = 16 << 20
RealWeights = Literal["float32", "int8"]
"""How a file stores the weights of real convolutions."""
_OF_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")  # torch.save's: a zip archive; before PyTorch 1.6 a pickle


def save(model: nn.Module, path: str | Path, *, real_weights: RealWeights = "float32") -> None:
    """Writes a packed network: its tensors, and what makes it again.

    That is each layer's configuration, the recipe where it is known, and for lmb_quant.archs the architecture. A
    wrapper around the network (DataParallel, AveragedModel, torch.compile) is left out.
    Tensors of another package's class are stored as they are in memory where a codec knows the class: int8 weights of
    torchao's ``IntxWeightOnlyConfig`` stay int8.

    Args:
        model: What :func:`lmb_quant.convert` returned.
        path: The safetensors file, under any name; an existing one is replaced once the new one is complete.
        real_weights: How the weights of the ``Conv2d`` modules that stayed real are stored: ``"float32"`` as they are,
            ``"int8"`` in 8 bits and one scale for each output channel. :func:`load` gives float32 either way, rounded
            after ``"int8"``; the network is as fast.

    Raises:
        LMBError: If the network has no packed layer, or a binary one that is not packed, or holds what cannot be
            stored (with ``"int8"``: such a weight that is not float32 or not finite), or a part of it is wrapped; or
            the file cannot be written.
        TypeError: If ``model`` is not a module.
    """
    if real_weights not in get_args(RealWeights):
        raise LMBError(unknown_name("real_weights", real_weights, get_args(RealWeights)))
    path = Path(path)
    model = unwrapped(model)
    parts = wrapped_parts(model)
    if parts:
        raise LMBError(
            f"model: its part {parts[0]!r} is wrapped in {type(model.get_submodule(parts[0])).__name__}, which changes "
            "the names of tensors. Allowed: a network without wrappers inside; save it before you compile parts."
        )
    layers = packed_convs_by_name(model)
    if not layers or any(isinstance(m, BinaryConv2d) for m in model.modules()):
        raise LMBError("model: it is not packed. Use convert() first.")
    _check_name(path)
    check_writable(path)
    arch, recipe = architecture_of(model), recipe_of(model)
    tensors, encoded = _plain(model, _real_weights(model) if real_weights == "int8" else set())
    header = Header(
        package_version=package_version("lmb-quant"),
        arch=None if arch is None else Arch(type=arch.name, args=dict(getattr(model, "arch_args", {}))),
        recipe=None if recipe is None else recipe.to_dict(),
        layers={n: asdict(m.config) for n, m in layers.items()},
        encoded=encoded,
        stages=described(model),
    )
    write_atomically(path, to_bytes(tensors, {KEY: to_text(header, tensors)}))


def load(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Reads a packed network. The file may come from anywhere: it is checked before memory is taken for it.

    Args:
        path: A file of :func:`save`.
        model: For a network that is not of lmb_quant.archs: the same network, float or binary; its convolutions are
            replaced in place, and a wrapper around it is left out. By default the network is made from the
            architecture that the file names.

    Returns:
        The network in eval mode, on the CPU; its parameters ask for no gradient.

    Raises:
        LMBError: If the file is truncated, damaged, foreign, of another format version, needs a package that is not
            installed, or does not fit the network; then the network is not changed.
        OSError: If it cannot be read.
        TypeError: If ``model`` is not a module.
    """
    path = Path(path)
    try:
        _check_name(path)
        _check_file(path)
        return _load(path, model)
    except SafetensorError as error:
        raise LMBError(f"{path}: it is not a safetensors file, or it is damaged: {error}.") from None
    except RecursionError:
        raise LMBError(f"{path}: its header is damaged: it is nested too deeply.") from None
    except LMBError as error:
        raise type(error)(f"{path}: {error}") from None


def from_pretrained(name: str) -> nn.Module:
    """Loads a trained network that comes with the package, as :func:`load` does.

    Args:
        name: One of :func:`lmb_quant.zoo.network_names`, which ``lmb-quant zoo`` lists.

    Raises:
        LMBError: If there is no network of that name; the message names the nearest one.
    """
    with network_file(name) as path:
        return load(path)


def load_named(name_or_file: str, argument: str = "network") -> nn.Module:
    """Loads the packed network of :func:`file_named`, whose arguments and errors it has.

    Raises:
        LMBError: As :func:`load`; and if the file cannot be read.
    """
    with file_named(name_or_file, argument) as path:
        try:
            return load(path)
        except OSError as error:
            raise LMBError(f"{path}: it cannot be read: {error.strerror}.") from None


@contextmanager
def file_named(name_or_file: str, argument: str = "network") -> Iterator[Path]:
    """The file of a packed network, by the name under which it comes with the package or by its path, for a while.

    Args:
        name_or_file: One of :func:`lmb_quant.zoo.network_names`, or the path of a file of :func:`save`.
        argument: What the user calls it, for messages.

    Raises:
        LMBError: If it is neither.
    """
    if name_or_file in network_names():
        with network_file(name_or_file) as path:
            yield path
    elif is_file(Path(name_or_file)):
        yield Path(name_or_file)
    else:
        raise LMBError(
            f"{argument}: {name_or_file!r} is no file. Allowed: a file of lmb_quant.save(), or a name: "
            f"{', '.join(network_names())}."
        )


def _real_weights(model: nn.Module) -> set[str]:
    """The weights of real convolutions, by name in the state dict."""
    modules = model.named_modules(remove_duplicate=False)
    return {join_names(name, "weight") for name, module in modules if isinstance(module, nn.Conv2d)}


def _plain(model: nn.Module, as_int8: set[str]) -> tuple[dict[str, Tensor], dict[str, Encoded]]:
    """The state dict in plain tensors, and how the others were made plain."""
    tensors, encoded = {}, {}
    for name, value in model.state_dict().items():
        try:
            if not isinstance(value, Tensor):
                raise LMBError(f"{type(value).__name__} cannot be stored. Allowed: tensors.")
            plain = type(value.detach()) is Tensor
            if plain and name not in as_int8:
                tensors[name] = _stored(value)
                continue
            codec = INT8_CHANNELS if plain else codec_for(value)
            parts, words = codec.split(value)
            tensors |= {join_names(name, part): _stored(tensor) for part, tensor in parts.items()}
            encoded[name] = Encoded(codec=codec.name, words=words)
        except LMBError as error:
            raise LMBError(f"tensor {name!r}: {error}") from None
    return tensors, encoded


def _stored(tensor: Tensor) -> Tensor:
    if tensor.dtype not in DTYPES.values() or tensor.layout != torch.strided or tensor.is_meta:
        kind = "it is on the meta device" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
        allowed = ", ".join(map(str, DTYPES.values()))
        raise LMBError(f"{kind}: it cannot be stored. Allowed: dense tensors with values, of {allowed}.")
    return tensor.detach().cpu().contiguous().clone()


def _check_name(path: Path) -> None:
    """Refuses a name that safetensors cannot open."""
    try:
        fits = "\0" not in str(path) and bool(str(path).encode())
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise LMBError(f"path: {str(path)!r} cannot be opened by safetensors. Allowed: a name in UTF-8 without zeros.")


def _check_file(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise LMBError("it is not a file.")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_OF_TORCH):
        raise LMBError(
            "it is a PyTorch checkpoint, not a packed file. To pack a network that was trained by an option file: "
            f"lmb-quant convert {shlex.quote(str(path))} -opt FILE -o net.safetensors"
        )
    length = int.from_bytes(start, "little")
    if found.st_size < 8 or length > min(found.st_size - 8, _MAX_HEADER):
        raise LMBError(f"it is not a safetensors file, or it is truncated ({found.st_size:,} bytes).")


def _load(path: Path, model: nn.Module | None) -> nn.Module:
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(KEY)
        if text is None:
            raise LMBError("it is a safetensors file, but not one of lmb_quant.save().")
        header, signed = from_text(text)
        recipe = None if header.recipe is None else Recipe.load(header.recipe)
        configs = read_configs(header.layers)
        packed = packed_parts(configs)
        check_parts(file, packed, all_of_them=False)
        given = model is not None
        model = build(header.arch, len(configs)) if model is None else unwrapped(model)
        check_places(model, configs)
        parts = packed | other_parts(model, configs, header.encoded)
        check_parts(file, parts, all_of_them=True)
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in parts}
    if header.sha256 != checksum(signed, tensors):
        raise LMBError("it is damaged: the contents do not have the checksum that the header gives.")
    check_tail_bits(configs, tensors)
    check_aliases(model, tensors)
    state = decoded(tensors, header.encoded)  # a codec may refuse values: before anything is replaced
    model = _with_layers(model, configs)
    model.load_state_dict(state, assign=True)
    remember_recipe(model, recipe)
    if header.stages is not None and not given and header.stages != described(model):
        raise LMBError(f"stages: they are not those of {type(model).__name__} with these layers.")
    return for_inference(model)


def _with_layers(model: nn.Module, configs: Mapping[str, PackedConfig]) -> nn.Module:
    """The network with packed layers, without memory for their tensors; a convolution at two names gives one layer."""
    modules = dict(model.named_modules(remove_duplicate=False))
    made: dict[nn.Module, PackedBinaryConv2d] = {}
    for name, config in configs.items():
        layer = made.setdefault(modules[name], PackedBinaryConv2d(config, device="meta"))
        if not name:
            return layer
        model.set_submodule(name, layer)
    return model
