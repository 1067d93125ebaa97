# SPDX-License-Identifier: Apache-2.0
"""The photographs that come with scikit-image: what the demo and the analysis use where the user names none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from lmb_quant.errors import LMBError
from lmb_quant.files import make_folder, write_atomically

# NASA's, and others in the public domain or under CC0 (scikit-image's data/README.txt).
TRAINING = (
    "astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "brick.png", "grass.png", "gravel.png",
    "camera.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "coins.png",
)  # fmt: skip
HELD_OUT = ("chelsea.png", "coffee.png", "rocket.jpg")


def shipped_photograph(name: str) -> Path:
    """Where a photograph is.

    Raises:
        LMBError: If scikit-image is not installed, or has no such photograph.
    """
    try:
        path = Path(str(files("skimage"))) / "data" / name
    except ModuleNotFoundError:
        raise LMBError("scikit-image is not installed, which has the photographs: pip install scikit-image.") from None
    if not path.is_file():
        raise LMBError(f"{path}: there is no such photograph; another version of scikit-image may have it.")
    return path


def copy_photographs(folder: Path, names: Sequence[str]) -> None:
    """Copies photographs into a folder, which is made where it is missing; what is there already stays.

    Raises:
        LMBError: As :func:`shipped_photograph`, or if a file cannot be written.
    """
    make_folder(folder)
    for name in names:
        if not os.path.lexists(folder / name):
            write_atomically(folder / name, shipped_photograph(name).read_bytes())
