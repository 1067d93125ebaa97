# SPDX-License-Identifier: Apache-2.0
"""timm's networks with weights that the user has."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn

from lmb_quant.errors import LMBError, reason
from lmb_quant.files import is_file

from ._host import create_model, is_model, list_models, load_checkpoint, resolve_model_data_config


def make_network(name: str, weights: Path | None = None, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Makes a timm network; nothing is downloaded.

    Args:
        name: What ``timm.list_models()`` knows, ``lmb_resnet18`` among them.
        weights: A checkpoint that timm can load; random weights without one.
        options: timm's, such as ``num_classes``.

    Returns:
        The network, and what its input must be: ``input_size`` (C, H, W), ``mean`` and ``std`` of the channels.

    Raises:
        LMBError: If timm has no such network, the file is missing, or its weights do not fit.
    """
    if not is_model(name):
        near = difflib.get_close_matches(name, list_models(), n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise LMBError(f"timm has no network {name!r}.{hint} Allowed: a name of timm.list_models().")
    network: nn.Module = create_model(name, pretrained=False, **options)
    if weights is not None:
        if not is_file(weights):
            raise LMBError(f"{weights}: there is no such file.")
        try:
            load_checkpoint(network, str(weights))
        except Exception as error:  # a foreign file can make the unpickler raise anything
            raise LMBError(f"{weights}: its weights do not fit timm's {name}: {reason(error)}") from None
    return network, resolve_model_data_config(network)
