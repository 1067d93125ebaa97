# SPDX-License-Identifier: Apache-2.0
"""The images of a suite: folders and the hash of what is in them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import entries, expanded, is_folder
from lmb_quant.integrations.basicsr.images import find_images
from lmb_quant.photographs import copy_photographs

from .cell import ImageSet
from .schema import Suite

# Photographs that scikit-image ships, in the public domain or under CC0 (its data/README.txt).
_PHOTOGRAPHS = {"train": ("astronaut.png", "coins.png", "rocket.jpg"), "test": ("chelsea.png",)}


class SuiteData(BaseModel):
    """The sets of a suite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    train: tuple[ImageSet, ...]
    test: tuple[ImageSet, ...]


def find_data(suite: Suite, folder: Path | None, output: Path) -> SuiteData:
    """Finds a suite's image sets and reads every file once, for the hash.

    Args:
        suite: The suite.
        folder: ``DIR``, with ``DIR/train/<set>`` and ``DIR/test/<set>``; None for the photographs of scikit-image,
            where the suite names them.
        output: Folder of results; the photographs are copied into it.

    Raises:
        LMBError: If there is no folder, or a set is missing or empty; names the sets that are there.
    """
    if folder is None:
        if suite.data.source is None:
            wanted = [f"train/{name}" for name in suite.data.train] + [f"test/{name}" for name in suite.data.test]
            raise LMBError(f"{suite.place}: it has no images. Give --data DIR with the folders {', '.join(wanted)}.")
        folder = output / "photographs"
        for part, names in _PHOTOGRAPHS.items():
            copy_photographs(folder / part / "photographs", names)
    root = expanded(folder).resolve()
    return SuiteData(
        train=tuple(_image_set(root / "train", name, f"{suite.place}: data.train") for name in suite.data.train),
        test=tuple(_image_set(root / "test", name, f"{suite.place}: data.test") for name in suite.data.test),
    )


def _image_set(parent: Path, name: str, place: str) -> ImageSet:
    folder = parent / name
    if not is_folder(folder):
        there = [path.name for path in entries(parent) if os.path.isdir(path)] if is_folder(parent) else []
        raise LMBError(f"{place}: {unknown_name(f'folder of {parent}', name, there)} (--data names another place.)")
    images = find_images(str(folder), place)
    digest = hashlib.blake2b(digest_size=16)
    for path in images:
        content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        digest.update(os.fsencode(f"{path.name} {content}\n"))
    return ImageSet(name=name, folder=str(folder), images=len(images), digest=digest.hexdigest())
