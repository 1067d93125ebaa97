# SPDX-License-Identifier: Apache-2.0
"""Training by a BasicSR option file: ``python -m lmb_quant.integrations.basicsr.train -opt FILE [--auto_resume]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from basicsr.train import train_pipeline

from ._run import run


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, in BasicSR's own pipeline.

    Args:
        argv: ``-opt FILE [--auto_resume] [--force_yml KEY:KEY=VALUE ...] [--launcher pytorch] [--debug]``; None for the
            process's arguments.

    Returns:
        The exit code: 0, or 2 after a user's mistake.
    """
    return run("lmb-quant train", train_pipeline, argv, is_train=True)


if __name__ == "__main__":
    sys.exit(main())
