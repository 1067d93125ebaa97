# SPDX-License-Identifier: Apache-2.0
"""The names of torchao that the integration uses; the only file that imports torchao."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

import torch

from lmb_quant.errors import LMBError, named_reason

from .._missing import MissingHostError, needed


class MissingTorchAOError(MissingHostError):
    """torchao, or a name in it, cannot be imported; the message holds the command that installs it."""


class UnsupportedSchemeError(LMBError):
    """torchao cannot run a scheme on a network's convolutions; the message is the reason."""

    @classmethod
    def of(cls, error: Exception) -> UnsupportedSchemeError:
        """From what torchao raised."""
        return cls(shorten(named_reason(error), 160, placeholder=" ..."))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log record says more than that CUDA libraries do not load, or that torch is newer than torchao."""
    message = record.getMessage()
    of_cuda = torch.version.cuda is None and message.startswith(("Failed to load", "Skipping import of cpp extensions"))
    return not of_cuda and "register_constant() on Enum subclasses" not in message


@contextmanager
def _without_known_noise() -> Iterator[None]:
    """While torchao is imported, drops the lines that it logs on every machine without CUDA, and no others."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_news)


with _without_known_noise(), needed("torchao", MissingTorchAOError):
    from torchao.core.config import ALLOWED_AO_MODULES as ALLOWED_AO_MODULES
    from torchao.core.config import AOBaseConfig as AOBaseConfig
    from torchao.core.config import config_from_dict as config_from_dict
    from torchao.quantization import FqnToConfig as FqnToConfig
    from torchao.quantization import Int4WeightOnlyConfig as Int4WeightOnlyConfig
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig as Int8DynamicActivationInt8WeightConfig,
    )
    from torchao.quantization import IntxUnpackedToInt8Tensor as IntxUnpackedToInt8Tensor
    from torchao.quantization import IntxWeightOnlyConfig as IntxWeightOnlyConfig
    from torchao.quantization import PerAxis as PerAxis
    from torchao.quantization import quant_api as quant_api
    from torchao.quantization import quantize_ as quantize_
    from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
        IntxUnpackedToInt8TensorActivationQuantization as IntxUnpackedToInt8TensorActivationQuantization,
    )
    from torchao.quantization.transform_module import (
        register_quantize_module_handler as register_quantize_module_handler,
    )
