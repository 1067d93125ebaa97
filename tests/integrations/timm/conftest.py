# SPDX-License-Identifier: Apache-2.0
"""timm imports torchvision, which may need help first; the tests import timm by itself."""

from lmb_quant.integrations._torchvision import import_torchvision

import_torchvision()
