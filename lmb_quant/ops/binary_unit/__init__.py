# SPDX-License-Identifier: Apache-2.0
"""A binary convolution's unit in training, forward and backward by the engine.

The definition is the training form in plain PyTorch, :class:`lmb_quant.modules.BinaryConv2d` with ``engine`` False.
"""

from .function import Comparison as Comparison
from .function import Unit as Unit
from .function import binary_unit as binary_unit
