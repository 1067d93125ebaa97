# SPDX-License-Identifier: Apache-2.0
"""Whether a packed layer is the last reader of its input, so that its result may take the input's place.

``nn.Sequential`` holds each result in one variable and puts the next result there. So if it calls a layer, and that
variable is all that holds the input, nobody reads the input later: no hook kept it, no list, no view of it, no array,
and it is not what the user gave, which the caller's caller holds. That is asked at each call, by counting references.
"""

from __future__ import annotations

import sys
import weakref
from functools import cache
from types import CodeType

import torch
from torch import Tensor, nn

from lmb_quant.ops._memory import LEAST, is_alone

_CALLERS: tuple[CodeType, ...] = (
    nn.Module._call_impl.__code__,
    nn.Module._wrapped_call_impl.__code__,
    nn.Sequential.forward.__code__,
)
"""What calls ``forward`` of a module in a sequence, if the module has no hooks; innermost first."""


def is_spent(x: Tensor) -> bool:
    """Whether ``x``, which the ``forward`` that calls this was given, is read by nobody but that ``forward``.

    Args:
        x: The argument of ``forward``, which holds it in one variable. Below 1 MB the answer is no: there is nothing to
            gain.
    """
    return (
        x.nbytes >= LEAST
        and _is_called_by_a_sequence()
        and sys.getrefcount(x) == _fewest_references()
        and not weakref.getweakrefcount(x)
        and is_alone(x)
    )


def _is_called_by_a_sequence() -> bool:
    frame = sys._getframe(2).f_back
    for code in _CALLERS:
        if frame is None or frame.f_code is not code:
            return False
        frame = frame.f_back
    return True


def _fewest_references() -> int:
    """References to an argument that is read by nobody else, as :func:`is_spent` counts them; 0 if not known now."""
    if sys.version_info >= (3, 14):
        return 0  # a function may borrow its argument there: what the caller holds is not counted again
    if _something_looks_on() or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0  # a debugger's references would be counted, and without the lock they cannot be
    return _counted()


def _something_looks_on() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    return bool(sys.gettrace() or sys.getprofile() or (monitoring and monitoring.get_tool(monitoring.DEBUGGER_ID)))


@cache
def _counted() -> int:
    probe = _Probe()
    with torch.no_grad():
        nn.Sequential(nn.Hardtanh(), probe)(torch.empty(1))
    return probe.references


class _Probe(nn.Module):
    def forward(self, input: Tensor, overwrite: bool = False) -> Tensor:
        self.references = _references(input)
        return input


def _references(x: Tensor) -> int:
    return sys.getrefcount(x)
