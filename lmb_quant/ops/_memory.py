# SPDX-License-Identifier: Apache-2.0
"""Memory for results that is used again once nobody holds it: fresh pages cost more than a binary convolution."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

LEAST = 1 << 20
"""Bytes of a result below which the C library reuses memory by itself."""

_MOST = 1 << 28
"""Bytes that are kept, in use or not; a result that would exceed them gets memory of its own."""

_kept: list[torch.UntypedStorage] = []
_lock = threading.Lock()
_uses = getattr(torch._C, "_storage_Use_Count", None)
"""How many tensors and others hold a storage. It is PyTorch's own; where it is missing nothing is kept."""

_tensor_uses = getattr(Tensor, "_use_count", None)
"""How many hold what a tensor's object stands for; PyTorch's own, too."""


def empty_channels_last(size: Sequence[int], device: torch.device) -> Tensor:
    """An uninitialised float32 tensor ``(N, C, H, W)``, channels-last, in memory that nobody else holds.

    On the CPU large ones take the place of earlier ones that are gone. Any number of threads may call it.

    Args:
        size: The four sizes.
        device: Where.

    Returns:
        A tensor that owns its memory, for all that its user can see.
    """
    bytes_ = 4 * math.prod(size)
    _, channels, height, width = size
    strides = (channels * height * width, 1, width * channels, channels)
    if device.type != "cpu" or _uses is None or not LEAST <= bytes_ <= _MOST:
        # half the time of torch.empty with a memory format
        return torch.empty_strided(size, strides, dtype=torch.float32, device=device)
    with _lock:  # until the tensor holds the storage
        return torch.empty(0, dtype=torch.float32, device="cpu").set_(_storage(bytes_), 0, tuple(size), strides)


def _storage(bytes_: int) -> torch.UntypedStorage:
    _drop_shared()
    for i in range(len(_kept)):
        if _kept[i].nbytes() == bytes_ and _is_idle(i):
            return _kept[i]
    new = torch.UntypedStorage(bytes_)
    _kept.append(new)
    while sum(storage.nbytes() for storage in _kept) > _MOST:
        idle = (i for i in range(len(_kept) - 1) if _is_idle(i))
        _kept.pop(next(idle, len(_kept) - 1))  # at last the new one, which is then its tensor's alone
    return new


def _is_idle(i: int) -> bool:
    """Whether nobody holds a storage but the list here: no tensor, and no storage object."""
    storage = _kept[i]
    alone = sys.getrefcount(storage) == 3  # the list, the name here, the argument; so callers hold none
    return alone and _uses(storage._cdata) == 1  # type: ignore[misc]


def is_alone(x: Tensor) -> bool:
    """Whether a tensor is all that holds its memory, and PyTorch made that: no view, no array, no other process."""
    if _uses is None or _tensor_uses is None or _tensor_uses(x) != 1:
        return False
    storage = x.untyped_storage()
    references, uses = _holders(storage)
    kept = sum(other is storage for other in _kept)
    if storage.is_shared() or not (kept or storage.resizable()):  # that of NumPy and others cannot be resized
        return False
    return (references - kept, uses) == _fewest_holders()


def _holders(storage: torch.UntypedStorage) -> tuple[int, int]:
    """References to a storage's object, and what holds the storage itself."""
    return sys.getrefcount(storage), _uses(storage._cdata)  # type: ignore[misc]


@cache
def _fewest_holders() -> tuple[int, int]:
    """Those of the storage of a tensor that nobody else holds, as :func:`is_alone` asks."""
    x = torch.empty(1, device="cpu")
    storage = x.untyped_storage()
    references, uses = _holders(storage)
    return references, uses


def _drop_shared() -> None:
    """Forgets what another process may read; nobody here can know how long."""
    _kept[:] = [storage for storage in _kept if not storage.is_shared()]
