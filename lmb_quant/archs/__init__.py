# SPDX-License-Identifier: Apache-2.0
"""Super-resolution networks as plain modules: a float network plus a recipe."""

from ._blocks import UPSCALES as UPSCALES
from ._registry import ARCHITECTURES as ARCHITECTURES
from ._registry import Architecture as Architecture
from ._registry import architecture as architecture
from ._registry import architecture_called as architecture_called
from ._registry import architecture_of as architecture_of
from .hybrid import LMBHybridNet as LMBHybridNet
from .srresnet import LMBSRResNet as LMBSRResNet
from .vdsr import LMBVDSR as LMBVDSR
