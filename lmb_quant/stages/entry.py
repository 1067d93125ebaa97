# SPDX-License-Identifier: Apache-2.0
"""Which networks run in one call of the engine, and their engine form, made at the first use.

All others run module by module: where hooks want to see a part, something records or compiles what runs, parameters are
not float32 on the CPU, or a part is no stage.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from lmb_quant.errors import LMBError
from lmb_quant.modules import PackedBinaryConv2d
from lmb_quant.modules.arithmetic import INT8, multiplies_int8, set_real_arithmetic
from lmb_quant.modules.engine_path import something_watches
from lmb_quant.ops._dispatch import is_plain
from lmb_quant.ops._library import find
from lmb_quant.ops.binary_conv2d.spec import ACTS, packed_act
from lmb_quant.ops.network import EngineNetwork, StageArguments

from .stage import MODES, Act, Add, AddUpscaled, Binary, Conv, Range, Shuffle, Stages

_SIMPLE = (bool, int, float, str, type(None))
_OWN = frozenset(vars(nn.Module()))
"""What every module has, lists and dicts of PyTorch's own."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """``model(x)``, by one call of the engine where it can: equal bits, values to float32 rounding.

    Args:
        model: Any network.
        x: ``(N, C, H, W)``.

    Raises:
        LMBError: As the network.
    """
    network = network_for(model, x)
    return model(x) if network is None else network.run(x)[0]


def network_for(model: nn.Module, x: Tensor) -> EngineNetwork | None:
    """What runs ``model(x)`` in one call, as :func:`network_of`; None also where ``x`` does not fit it."""
    network = network_of(model) if _fits(x) else None
    return network if network is not None and network.channels == x.shape[1] else None


def network_of(model: nn.Module) -> EngineNetwork | None:
    """The engine's form of a network as it is now; None where it runs module by module now.

    It is kept, and made again when the network was changed: its tensors, its modules, and their attributes where they
    are numbers, words, None, tuples, or lists and dicts of such. Not noticed is what is written into a packed layer
    through ``.data``, as anywhere in PyTorch, and into other objects that a module holds.

    Args:
        model: Any network.
    """
    return _form(model)[0]


def why_not(model: nn.Module) -> str:
    """Why a network runs module by module now, in words; empty where one call of the engine runs it."""
    return _form(model)[1]


def require_int8(model: nn.Module) -> None:
    """Sets int8 as a network's real arithmetic, and sees to it that the engine uses it.

    Args:
        model: Any network.

    Raises:
        LMBError: If the engine does not run the network in one call, or no convolution of it can multiply in 8 bits.
    """
    with torch.no_grad():
        reason = why_not(model)
    if reason:
        raise LMBError(f"arithmetic: 'int8' is not allowed for a network that runs module by module: {reason}.")
    if not set_real_arithmetic(model, "int8"):
        raise LMBError(
            "arithmetic: 'int8' is not allowed: the network has no real pointwise convolution. Allowed: float32."
        )


def _fits(x: Tensor) -> bool:
    return is_plain(x) and x.dtype == torch.float32 and x.ndim == 4 and x.numel() > 0


_entries: WeakIdKeyDictionary = WeakIdKeyDictionary()
_lock = threading.Lock()


def _form(model: nn.Module) -> tuple[EngineNetwork | None, str]:
    library, reason = find()
    if library is None:
        return None, reason
    if torch.is_grad_enabled():
        return None, "gradients"
    if torch.is_autocast_enabled("cpu") or something_watches():
        return None, "autocast, global hooks, or something that records what runs"
    with _lock:
        entry: _Entry | None = _entries.get(model)
    if entry is None or not entry.is_current():
        entry = _Entry(model)
        with _lock:
            _entries[model] = entry
    if entry.network is not None and entry.has_hooks():
        return None, "hooks"
    return entry.network, entry.reason


class _Entry:
    """A network's engine form, or why it has none, and what it was made from."""

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self.hooks = [vars(module)[name] for module in modules for name in _HOOKS]
        self.empty: list[dict[str, Any]] = []
        self.held: list[tuple[dict[str, Any], tuple[int, ...]]] = []
        self.numbers: list[tuple[dict[str, Any], tuple[str, ...], tuple[Any, ...]]] = []
        self.written: list[tuple[dict[str, Any], str, Any]] = []
        self.versioned: list[Tensor] = []
        self.copies: list[tuple[Tensor, Tensor]] = []
        self.modules = [
            module for module in modules if module is not model
        ]  # held, so that no other gets an id of theirs
        for module in modules:
            for held in (module._modules, module._parameters, module._buffers):
                if held:
                    self.held.append((held, tuple(map(id, held.values()))))
                else:
                    self.empty.append(held)
            packed = isinstance(module, PackedBinaryConv2d)
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is None or tensor.is_meta:
                    continue
                if packed and not tensor.is_inference():
                    self.versioned.append(tensor)
                else:  # written to through .data, or without versions: few, so their values are compared
                    self.copies.append((tensor, tensor.detach().clone()))
            values = vars(module)
            names = tuple(
                name
                for name, value in values.items()
                if name == "config" or (name not in _OWN and isinstance(value, (tuple, *_SIMPLE)))
            )
            self.written += [
                (values, name, deepcopy(value))
                for name, value in values.items()
                if isinstance(value, (list, dict)) and name not in _OWN and _is_simple(value)
            ]
            self.numbers.append(
                (values, ("forward", INT8, *names), (None, values.get(INT8), *(values[name] for name in names)))
            )
        self.versions = [tensor._version for tensor in self.versioned]
        self.network: EngineNetwork | None = None
        self.reason = ""
        try:
            self.network = _made(model, modules)
        except LMBError as error:
            self.reason = str(error)

    def has_hooks(self) -> bool:
        return any(self.hooks)

    def is_current(self) -> bool:
        """Whether the network is as it was; as cheap as can be, for it is asked at each call."""
        try:
            return self._is_unchanged()
        except (RuntimeError, ValueError):  # a tensor or an array stands where a number stood
            return False

    def _is_unchanged(self) -> bool:
        return (
            not any(self.empty)
            and all(tuple(map(id, held.values())) == ids for held, ids in self.held)
            and [tensor._version for tensor in self.versioned] == self.versions
            and all(tuple(map(values.get, names)) == expected for values, names, expected in self.numbers)
            and all(values.get(name) == kept for values, name, kept in self.written)
            and all(_same(tensor, copy) for tensor, copy in self.copies)
        )


def _is_simple(value: Any) -> bool:
    """Whether a value is a number, a word, None, or made of such."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_simple, value))
    if isinstance(value, dict):
        return all(map(_is_simple, value.values()))
    return isinstance(value, _SIMPLE)


def _same(tensor: Tensor, copy: Tensor) -> bool:
    return tensor.dtype == copy.dtype and tensor.device == copy.device and torch.equal(tensor, copy)


def _made(model: nn.Module, modules: list[nn.Module]) -> EngineNetwork:
    """The engine form.

    Raises:
        LMBError: If there is none, with the reason.
    """
    library = find()[0]
    assert library is not None
    if _place_of("stages", model) is None:
        raise LMBError(f"{type(model).__name__} says no stages")
    for module in modules:
        says = {_place_of(name, module) for name in ("stages", "add_stages")} - {None}
        changed = says and says != {_place_of("forward", module)}
        if changed or "forward" in vars(module) or module._compiled_call_impl is not None:
            raise LMBError(f"the forward of {type(module).__name__} was changed or compiled")
    for tensor in (*model.parameters(), *model.buffers()):
        if not is_plain(tensor) or tensor.dtype not in (torch.float32, torch.uint8):
            raise LMBError("parameters not float32 on the CPU")
    stages: Stages = model.stages()  # type: ignore[operator]
    return EngineNetwork(library, list(_arguments(stages)), stages.channels)


def _place_of(method: str, module: nn.Module) -> type | None:
    """The class that defines a module's method."""
    return next((cls for cls in type(module).__mro__ if method in vars(cls)), None)


def _arguments(stages: Stages) -> Iterator[StageArguments]:
    for stage in stages:
        if isinstance(stage, Range):
            yield StageArguments("range", {"offset": stage.offset, "gain": stage.gain})
        elif isinstance(stage, Conv):
            layer = stage.layer
            depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
            yield StageArguments(
                "depthwise" if depthwise else "conv",
                {
                    "out_channels": layer.out_channels,
                    "groups": 1 if depthwise else layer.groups,
                    "kernel": layer.kernel_size[0],
                    "skip": stage.skip,
                    "int8": multiplies_int8(layer),
                    **_code(stage.act),
                },
                {"weight": layer.weight, "bias": layer.bias, **_values(stage.act)},
            )
        elif isinstance(stage, Binary):
            yield StageArguments("binary", layer=(stage.layer.arguments(), stage.layer.config.in_channels))
        elif isinstance(stage, Act):
            yield StageArguments("act", _code(stage.act), _values(stage.act))
        elif isinstance(stage, Add):
            yield StageArguments("add", {"other": stage.value, "alpha": stage.alpha})
        elif isinstance(stage, Shuffle):
            yield StageArguments("shuffle", {"upscale": stage.upscale})
        else:
            numbers: dict[str, float | int] = {"upscale": stage.upscale, "mode": MODES.index(stage.mode)}
            if isinstance(stage, AddUpscaled):
                yield StageArguments("add_upscaled", {**numbers, "alpha": stage.alpha})
            else:
                yield StageArguments("upscale", numbers)


def _code(act: nn.Module | None) -> dict[str, float | int]:
    return {} if act is None else {"act": ACTS[packed_act(act)[0]].code}


def _values(act: nn.Module | None) -> dict[str, Tensor | None]:
    return {} if act is None else {**packed_act(act)[1]}
