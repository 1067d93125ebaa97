# SPDX-License-Identifier: Apache-2.0
"""When a call may go past PyTorch's dispatcher: nobody there would see it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter)


def something_records() -> bool:
    """Whether something compiles, traces or records operators, or changes what they do."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def is_plain(x: Tensor) -> bool:
    """Whether a tensor is nothing but numbers in the CPU's memory."""
    return type(x) in _PLAIN and x.is_cpu and x.layout is torch.strided and not x.is_neg() and not x._is_zerotensor()
