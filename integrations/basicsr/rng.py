# SPDX-License-Identifier: Apache-2.0
"""The state of all random number generators: kept, restored, isolated."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def get_rng_state(*, cuda: bool = True) -> dict[str, Any]:
    """Returns the state of Python's, NumPy's and torch's generators as plain values that ``weights_only`` loads."""
    name, keys, *rest = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (str(name), [int(key) for key in keys], *rest),
        "torch": torch.default_generator.get_state(),
    }
    if cuda and torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restores what :func:`get_rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.default_generator.set_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextlib.contextmanager
def isolated_rng(seed: int | None = None) -> Iterator[None]:
    """Leaves the generators as they were before; inside, they start from ``seed`` if one is given (not CUDA's)."""
    python, numpy, torch_cpu = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(torch_cpu)


def mix_seed(*numbers: int) -> int:
    """Mixes whole numbers to one seed in [0, 2^63): equal for equal numbers, on every machine, unrelated for others."""
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
