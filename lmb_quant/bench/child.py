# SPDX-License-Identifier: Apache-2.0
"""Measurements that need a process of their own: libraries read the environment once, and memory has a peak."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from lmb_quant.errors import LMBError

_T = TypeVar("_T")


def with_threads(count: int) -> dict[str, str]:
    """The environment of a process whose libraries start so many threads."""
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}


ONE_THREAD = with_threads(1)


def in_child(function: Callable[..., _T], *args: Any, environment: Mapping[str, str] | None = None) -> _T:
    """Calls a function of a module in a fresh Python process, with these environment variables beside the present ones.

    Raises:
        LMBError: If the process dies; what the function raises is raised here.
    """
    with _environment(environment or {}), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool:
            raise LMBError(f"{function.__module__}.{function.__name__}: its process died. Is memory short?") from None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
