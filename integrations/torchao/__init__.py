# SPDX-License-Identifier: Apache-2.0
"""The same rewrite the torchao way: a config for ``quantize_``, and recipes as ``FqnToConfig``.

Importing this package registers :class:`LMBConfig` with torchao; a process that reads one with ``config_from_dict``
must import it first. ``import lmb_quant`` does not load torchao; ``lmb_quant.save`` and ``load`` do where a network
holds torchao's weights.
"""

from . import matching as _matching
from ._host import MissingTorchAOError as MissingTorchAOError
from ._host import UnsupportedSchemeError as UnsupportedSchemeError
from .codec import IntxCodec as IntxCodec
from .config import LMBConfig as LMBConfig
from .config import is_binary as is_binary
from .fqn_config import to_torchao as to_torchao
from .network import LMBNetworkConfig as LMBNetworkConfig
from .selection import conv_filter as conv_filter

_matching.install()
