# SPDX-License-Identifier: Apache-2.0
"""Imports timm, after the torchvision that it needs."""

from __future__ import annotations

from .._missing import MissingHostError, needed
from .._torchvision import import_torchvision


class MissingTimmError(MissingHostError):
    """timm, or a package that it needs, cannot be imported; the message holds the command that installs it."""


with needed("timm", MissingTimmError):
    import_torchvision()
    from timm import create_model as create_model
    from timm import optim as optim
    from timm import scheduler as scheduler
    from timm.data import resolve_model_data_config as resolve_model_data_config
    from timm.models import is_model as is_model
    from timm.models import list_models as list_models
    from timm.models import load_checkpoint as load_checkpoint
    from timm.models import register_model as register_model
