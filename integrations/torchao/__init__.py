# SPDX-License-Identifier: Apache-2.0
"""The same rewrite the torchao way: a config for ``quantize_``, and recipes as ``FqnToConfig``.

Importing this package registers :class:`LMBConfig` with torchao; a process that reads one with ``config_from_dict``
must import it first. ``import lmb_quant`` does not load torchao.
"""

from ._host import MissingTorchAOError as MissingTorchAOError
from .config import LMBConfig as LMBConfig
from .fqn_config import to_torchao as to_torchao
from .selection import conv_filter as conv_filter
