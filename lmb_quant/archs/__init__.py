# SPDX-License-Identifier: Apache-2.0
"""Super-resolution networks as plain modules: a float network plus a recipe."""

from .srresnet import LMBSRResNet as LMBSRResNet
from .vdsr import LMBVDSR as LMBVDSR
