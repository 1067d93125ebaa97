# SPDX-License-Identifier: Apache-2.0
"""The networks that cells trained, read from their folders."""

from __future__ import annotations

from torch import nn

from lmb_quant.bench.suite.plan.cell import Cell
from lmb_quant.bench.suite.plan.schemes import QAT
from lmb_quant.bench.suite.store import Store
from lmb_quant.errors import LMBError
from lmb_quant.integrations.basicsr.checkpoint import load_weights
from lmb_quant.integrations.basicsr.folding import folded
from lmb_quant.integrations.basicsr.networks import build

from .calibration import calibration_images
from .hosts import HostForm, host_form


def trained_network(cell: Cell, store: Store) -> nn.Module:
    """The network of a cell whose training is done: on the CPU, in eval mode, in the form in which it is used.

    Args:
        cell: A cell with a network.
        store: Where it was trained.

    Raises:
        LMBError: If its file is missing or damaged.
    """
    network = build(dict(cell.network_g or {}))
    load_weights(network, store.weights(cell), param_key="params_ema")
    return folded(network.eval())


def float_network(cell: Cell, network: nn.Module) -> nn.Module:
    """The float network behind a host's form, for counting: ``network`` itself, unless it trained in int8."""
    if cell.host is not None and cell.host.scheme == QAT:
        return folded(build(dict((cell.network_g or {})["arch"])).eval())
    return network


def cell_form(cell: Cell, network: nn.Module) -> HostForm:
    """What the cell's host makes of its trained network.

    Raises:
        UnsupportedError: If the host cannot run the scheme on it.
        LMBError: If the cell has no host, or torchao is not installed.
    """
    if cell.host is None:
        raise LMBError(f"{cell.name}: it has no host.")
    count, side = cell.host.calibration or (1, 48)
    return host_form(cell.host, network, lambda: calibration_images(cell.train, cell.upscale, count, side))
