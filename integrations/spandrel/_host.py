# SPDX-License-Identifier: Apache-2.0
"""Imports spandrel, after the torchvision that it needs."""

from __future__ import annotations

from .._missing import MissingHostError, needed
from .._torchvision import import_torchvision


class MissingSpandrelError(MissingHostError):
    """spandrel, or a package that it needs, cannot be imported; the message holds the command that installs it."""


with needed("spandrel", MissingSpandrelError):
    import_torchvision()
    from spandrel import MAIN_REGISTRY as MAIN_REGISTRY
    from spandrel import Architecture as Architecture
    from spandrel import ArchSupport as ArchSupport
    from spandrel import ImageModelDescriptor as ImageModelDescriptor
    from spandrel import ModelLoader as ModelLoader
    from spandrel import ModelTiling as ModelTiling
    from spandrel import StateDict as StateDict
    from spandrel import UnsupportedModelError as UnsupportedModelError
