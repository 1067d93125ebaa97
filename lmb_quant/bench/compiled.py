# SPDX-License-Identifier: Apache-2.0
"""torch.compile as a competitor: static shapes, weights frozen, which is its fastest form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_NETWORKS = 256
"""Networks of one wrapper that may be compiled in one run; PyTorch gives up after 8."""


def why_not() -> str:
    """Why nothing can be compiled here, or an empty string."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "torch.compile needs a C++ compiler, and there is none"
    return ""


@contextmanager
def frozen() -> Iterator[None]:
    """Within it compiled modules must run for the first time, and whenever the number of threads is a new one."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    torch._dynamo.reset()  # its limit of recompilations counts those of networks measured before
    with inductor.patch(freezing=True), dynamo.patch(recompile_limit=_NETWORKS):
        yield


def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module under torch.compile; it compiles when it is called.

    Freezing is no option of ``torch.compile`` here: oneDNN's packed int8 weights then fail in PyTorch 2.13.
    """
    return torch.compile(module, fullgraph=True, dynamic=False)
