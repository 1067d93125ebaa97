# SPDX-License-Identifier: Apache-2.0
"""A cell: one network under one method at one SR factor with one seed, and the keys that its content has."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from .schema import Training
from .schemes import HostSettings

KEY_VERSION = 1
"""Part of every key; raised when a change of the suite's own code makes old results incomparable."""


class ImageSet(BaseModel):
    """A folder of HR images. ``digest`` is a hash of the files' names and contents, wherever the folder is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    name: str
    folder: str
    images: int
    digest: str


class Cell(BaseModel):
    """All that decides one result; data only, so that another process or machine can do it.

    ``network_g`` is the section of BasicSR's option file, or None for bicubic upscaling. ``host`` says what a host
    makes of the network afterwards: cells that differ in it alone share one training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    network: str
    method: str
    upscale: int
    seed: int
    network_g: dict[str, Any] | None
    hooks: tuple[dict[str, Any], ...]
    training: Training
    threads: int
    train: tuple[ImageSet, ...]
    test: tuple[ImageSet, ...]
    validation: str
    torch: str
    binarizers: dict[str, str]
    host: HostSettings | None = None

    @property
    def name(self) -> str:
        """``network/method/x4/seed0``."""
        return f"{self.network}/{self.method}/x{self.upscale}/seed{self.seed}"

    @property
    def steps(self) -> int:
        """Training steps; none for bicubic upscaling."""
        return self.training.steps if self.network_g else 0

    @property
    def training_key(self) -> str:
        """Hash of all that decides the trained network and its training curve; names and places do not."""
        if self.network_g is None:
            return content_hash({"bicubic": self.upscale})
        validation = next(images.digest for images in self.test if images.name == self.validation)
        content = self.model_dump(exclude={"network", "method", "train", "test", "validation", "host"})
        data = {"train": [images.digest for images in self.train], "validation": validation}
        return content_hash({"version": KEY_VERSION, **content, **data})

    @property
    def key(self) -> str:
        """Hash of all that decides the result: the training, the test sets, what a host does after training."""
        host = [] if self.host is None else [self.host.model_dump()]
        return content_hash([self.training_key, [[images.name, images.digest] for images in self.test], *host])

    @property
    def latency_key(self) -> str:
        """Hash of what decides how fast the network is; seeds and training do not."""
        content = self.model_dump(include={"network_g", "upscale", "host", "binarizers", "torch"})
        return content_hash({**content, "size": lr_size(self.upscale)})


def lr_size(upscale: int) -> tuple[int, int]:
    """Height and width of the LR image behind one of 720 x 1280 pixels, as in the literature: 180 x 320 at x4."""
    return round(720 / upscale), round(1280 / upscale)


def content_hash(content: Any) -> str:
    """16 hexadecimal digits that depend on plain data and nothing else."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
