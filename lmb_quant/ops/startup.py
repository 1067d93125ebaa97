# SPDX-License-Identifier: Apache-2.0
"""How soon the first packed layer runs."""

from __future__ import annotations

import contextlib

from torch._library.custom_ops import OPDEFS

_NAMESPACE = "lmb_quant::"


def spare_compiler() -> None:
    """Spares a program that compiles nothing the import of torch's compiler: about two seconds.

    PyTorch imports it at the first run of an operator of ours, to keep it away from the operator's code. A program that
    calls this must not use torch.compile.

    Source:
        torch/_compile.py: what ``__dynamo_disable`` holds is called in place of the compiler's wrapper.
    """
    for name, operator in OPDEFS.items():
        if name.startswith(_NAMESPACE):
            with contextlib.suppress(AttributeError, KeyError):  # another version of torch: only slower
                kernel = operator._backend_fns[None].__wrapped__
                kernel.__dynamo_disable = kernel
