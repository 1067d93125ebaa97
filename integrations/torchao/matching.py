# SPDX-License-Identifier: Apache-2.0
"""``quantize_`` with this package's configs where nothing matches: an error, for torchao itself says nothing.

torchao hands a config single modules and never the network, so that a config cannot see that it was given none. Two of
its functions do see both, and are wrapped, once; they do for all other configs what they did.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.modules import BinaryConv2d

from ._host import AOBaseConfig, FqnToConfig, quant_api
from .config import LMBConfig
from .network import LMBNetworkConfig

_DEFAULT = "_default"
_installed: list[str] = []


def install() -> None:
    """Wraps torchao's functions; again is harmless."""
    if _installed:
        return
    _installed.extend((_WALK, *_NAMED))
    setattr(quant_api, _WALK, _counting(getattr(quant_api, _WALK)))
    for name in _NAMED:
        setattr(quant_api, name, _checking(getattr(quant_api, name)))


_WALK = "_replace_with_custom_fn_if_matches_filter"
_NAMED = ("_fqn_to_config_handler", "_module_param_matches_fqn_config")


def _is_own(config: Any) -> bool:
    return isinstance(config, LMBConfig | LMBNetworkConfig)


def _counting(walk: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(walk)
    def counting(
        model: nn.Module,
        replacement_fn: Any,
        filter_fn: Callable[..., bool],
        cur_fqn: str = "",
        device: Any = None,
        extra_args: tuple[Any, ...] = (),
    ) -> Any:
        if cur_fqn or not extra_args or not _is_own(extra_args[0]):  # inside the walk, or another's config
            return walk(model, replacement_fn, filter_fn, cur_fqn, device, extra_args)
        matched = False

        def noting(module: nn.Module, *args: Any) -> bool:
            nonlocal matched
            found = bool(filter_fn(module, *args))
            matched |= found
            return found

        result = walk(model, replacement_fn, noting, cur_fqn, device, extra_args)
        if not matched:
            raise LMBError(_nothing(model, extra_args[0]))
        return result

    return counting


def _nothing(model: nn.Module, config: AOBaseConfig) -> str:
    step = getattr(config, "step", "")
    kind, hint = (BinaryConv2d, "is_binary") if step == "convert" else (nn.Conv2d, "conv_filter(...)")
    names = [name or "(the model itself)" for name, module in model.named_modules() if isinstance(module, kind)]
    more = ", ..." if len(names) > 5 else ""
    has = f"The network's {kind.__name__}: {', '.join(names[:5]) or 'none'}{more}."
    return (
        f"{type(config).__name__}: quantize_: filter_fn matches no module of the network, so nothing would change. "
        f"Allowed: a filter that matches, such as {hint}; torchao's own default takes Linear modules only. {has}"
    )


def _checking(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def checking(module: nn.Module, fqn: str, config: FqnToConfig) -> Any:
        if not fqn:  # torchao begins with the network itself, before anything is changed
            _check_names(module, config)
        return function(module, fqn, config)

    return checking


def _check_names(model: nn.Module, config: FqnToConfig) -> None:
    if not any(map(_is_own, config.fqn_to_config.values())):
        return
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    known = ["", *modules, *(name for name, _ in model.named_parameters(remove_duplicate=False))]
    for pattern, entry in config.fqn_to_config.items():
        if pattern == _DEFAULT and _is_own(entry):
            raise LMBError(
                f"FqnToConfig: {_DEFAULT!r} is not allowed for {type(entry).__name__}: torchao applies it to Linear "
                "modules only. Allowed: names of modules, and 're:' with a regular expression."
            )
        if pattern != _DEFAULT and not _matches_any(pattern, known):
            raise LMBError(f"FqnToConfig: {pattern!r} matches no module. {unknown_name('name', pattern, modules[:40])}")


def _matches_any(pattern: str, names: Iterable[str]) -> bool:
    if pattern.startswith("re:"):
        return any(re.fullmatch(pattern[3:], name) for name in names)
    return pattern in names
