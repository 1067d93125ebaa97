# SPDX-License-Identifier: Apache-2.0
"""How an activation becomes a bit: the one description that training form, packed form, file and engine share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lmb_quant.errors import LMBError, unknown_name

THRESHOLDS = ("none", "channel", "local", "global")
MAX_WINDOW = 255


@dataclass(frozen=True, eq=False)
class Threshold:
    """The threshold of a binary layer's input; tau and T as in :func:`lmb_quant.ops.local_mean_sign`.

    =========== =======================================================
    kind        bit (1 = +1)
    =========== =======================================================
    ``none``    ``x >= 0``
    ``channel`` ``x - shift >= 0``
    ``local``   ``(x - shift) - gain T >= -tau``, T the mean of the window
    ``global``  ``(x - shift) - gain T >= -tau``, T the mean of the frame
    =========== =======================================================

    ``shift`` is ``(C,)``, needed for ``channel``, optional (0) for the means; ``gain`` is ``(C,)``, optional (1) for
    the means; ``window`` is for ``local``, odd, 1 to 255.

    Raises:
        LMBError: If the parts do not fit together.
    """

    kind: str = "none"
    window: int = 1
    shift: Tensor | None = None
    gain: Tensor | None = None

    def detach(self) -> Threshold:
        """The same without gradients."""
        shift, gain = (None if t is None else t.detach() for t in (self.shift, self.gain))
        return Threshold(self.kind, self.window, shift, gain)

    def __post_init__(self) -> None:
        check_threshold(self.kind, self.window, self.shift is not None, self.gain is not None)


def check_threshold(kind: str, window: int, has_shift: bool, has_gain: bool = False) -> None:
    """Checks that the parts of a threshold fit together.

    Raises:
        LMBError: If the kind is unknown, a shift or a gain is missing or one too many, or the window is not allowed.
    """
    if kind not in THRESHOLDS:
        raise LMBError(unknown_name("threshold", kind, THRESHOLDS))
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= MAX_WINDOW or window % 2 == 0:
        raise LMBError(f"window: {window!r} is not allowed in the packed form. Allowed: odd, 1 to {MAX_WINDOW}.")
    if window != 1 and kind != "local":
        raise LMBError(f"window: {window!r} is not allowed with threshold {kind!r}. Allowed: 1.")
    if (kind == "channel" and not has_shift) or (kind == "none" and has_shift):
        raise LMBError(f"threshold {kind!r}: shift is {'given' if has_shift else 'missing'}. Allowed: the opposite.")
    if has_gain and kind not in ("local", "global"):
        raise LMBError(f"threshold {kind!r}: gain is given. Allowed: with 'local' and 'global'.")
