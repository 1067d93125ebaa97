# SPDX-License-Identifier: Apache-2.0
"""The modules that a rewrite puts into a network."""

from .activation import ACTIVATIONS as ACTIVATIONS
from .activation import IDENTITY as IDENTITY
from .activation import RPReLU as RPReLU
from .activation import make_act as make_act
from .arithmetic import multiplies_int8 as multiplies_int8
from .arithmetic import set_real_arithmetic as set_real_arithmetic
from .conv import BinaryConv2d as BinaryConv2d
from .conv import LayerConfig as LayerConfig
from .conv import binary_convs as binary_convs
from .norm import NORMS as NORMS
from .norm import make_norm as make_norm
from .packed import PackedBinaryConv2d as PackedBinaryConv2d
from .packed import PackedConfig as PackedConfig
from .packed import geometry_of as geometry_of
from .packed import packed_convs as packed_convs
from .packed import packed_convs_by_name as packed_convs_by_name
from .packed import why_not_packed as why_not_packed
from .precision import PRECISIONS as PRECISIONS
from .precision import check_precision as check_precision
from .precision import ends_precision as ends_precision
from .precision import set_precision as set_precision
from .unpacked import unpack_into as unpack_into
