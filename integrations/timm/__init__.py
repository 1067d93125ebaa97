# SPDX-License-Identifier: Apache-2.0
"""timm's optimisers and schedulers by name, and classification networks binarised by the same recipes.

Importing this package registers the models ``lmb_resnet18`` and ``lmb_resnet34`` with timm. Import it before timm: with
a CPU build of torch and PyPI's torchvision, ``import timm`` by itself fails.
"""

from ._host import MissingTimmError as MissingTimmError
from .models import lmb_resnet18 as lmb_resnet18
from .models import lmb_resnet34 as lmb_resnet34
from .networks import make_network as make_network
from .optim import make_optimizer as make_optimizer
from .optim import make_scheduler as make_scheduler
