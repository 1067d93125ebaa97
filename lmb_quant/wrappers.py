# SPDX-License-Identifier: Apache-2.0
"""Networks inside PyTorch's wrappers, which add a prefix to every name and hide the network's class."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

_WITH_MODULE = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_COMPILED = "_orig_mod"  # where torch.compile keeps the network; to import its class takes a second


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without DataParallel, DistributedDataParallel, AveragedModel and torch.compile around it.

    Args:
        model: Any module; one that is not wrapped is returned as it is.

    Raises:
        TypeError: If ``model`` is not a module.

    Example:
        >>> net = nn.Conv2d(3, 3, 3)
        >>> unwrapped(nn.DataParallel(AveragedModel(net))) is not net, unwrapped(nn.DataParallel(net)) is net
        (True, True)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: {model!r} is not allowed. Allowed: a torch.nn.Module.")
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def wrapped_parts(model: nn.Module) -> list[str]:
    """Names of wrappers inside a network, as where a part of it was compiled."""
    return [name for name, module in model.named_modules() if _inner(module) is not None]


def _inner(model: nn.Module) -> nn.Module | None:
    if isinstance(model, _WITH_MODULE):
        inner: nn.Module = model.module
        return inner
    return model._modules.get(_COMPILED)
