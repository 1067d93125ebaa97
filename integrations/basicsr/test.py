# SPDX-License-Identifier: Apache-2.0
"""Evaluation by a BasicSR option file: ``python -m lmb_quant.integrations.basicsr.test -opt FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from basicsr.test import test_pipeline

from ._run import run


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates, in BasicSR's own pipeline.

    Args:
        argv: ``-opt FILE [--force_yml KEY:KEY=VALUE ...] [--launcher pytorch]``; None for the process's arguments.

    Returns:
        The exit code: 0, or 2 after a user's mistake.
    """
    return run("lmb-quant test", test_pipeline, argv, is_train=False)


if __name__ == "__main__":
    sys.exit(main())
