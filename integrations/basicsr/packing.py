# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of a training becomes a packed file: what ``lmb-quant convert`` does."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lmb_quant.archs import architecture_of
from lmb_quant.errors import LMBError
from lmb_quant.files import check_new
from lmb_quant.modules import binary_convs
from lmb_quant.packing import convert
from lmb_quant.serialize import RealWeights, save

from .checkpoint import entry_of, load_file, load_weights
from .networks import build_of, check_network, with_upscale
from .option_read import find_option_file, read_options


class Packed(NamedTuple):
    """What was packed: the network's class, the entry of the checkpoint, whether the file names its architecture."""

    kind: str
    key: str | None
    has_arch: bool


def pack_checkpoint(
    checkpoint: Path,
    option_file: str,
    output: Path,
    *,
    param_key: str | None = None,
    upscale: int | None = None,
    real_weights: RealWeights = "float32",
    force: bool = False,
) -> Packed:
    """Packs the network of a checkpoint.

    Args:
        checkpoint: A ``.pth`` file of a training, or a bare state dict.
        option_file: The training's option file, or a test's: its ``network_g`` is the network.
        output: The packed file.
        param_key: The entry; by default ``params_ema``, the moving average, where the file holds it, else ``params``.
        upscale: SR factor in place of the option file's, for a network that was trained on images enlarged by several.
        real_weights: As in :func:`lmb_quant.save`.
        force: Whether an existing file is replaced.

    Returns:
        What was packed.

    Raises:
        LMBError: If the checkpoint is none, lacks the entry or does not fit the option file's network, which is float
            or has no packed form; or the file exists or cannot be written.
    """
    check_new(output, force=force)
    key = entry_of(load_file(checkpoint), checkpoint, param_key)
    path = find_option_file(option_file)
    options = with_upscale(read_options(path), upscale, str(path))
    network = build_of(path, check_network(options, str(path)))
    if not any(binary_convs(network)):
        raise LMBError(f"{path}: network_g: it is a float network. Allowed: one with a recipe, which can be packed.")
    load_weights(network, checkpoint, param_key=key)
    try:
        packed = convert(network.eval())
    except LMBError as error:
        raise LMBError(f"{path}: network_g: {error}") from None
    save(packed, output, real_weights=real_weights)
    kind = type(packed).__name__
    return Packed(kind, key, architecture_of(packed) is not None)
