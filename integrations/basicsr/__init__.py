# SPDX-License-Identifier: Apache-2.0
"""BasicSR as host: architectures, a model with hooks, a data set, training and testing from option files.

Importing this package repairs what is broken in BasicSR (:mod:`.compat`) and registers everything.
"""

from .compat import MissingBasicSRError as MissingBasicSRError  # isort: skip - first, it makes basicsr importable
from .compat import applied_fixes as applied_fixes  # isort: skip

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

from . import pipeline as _pipeline
from .archs import ARCHITECTURES, register_once
from .archs import LMBBinarized as LMBBinarized
from .data import HRImageDataset as HRImageDataset
from .he_init import LMBHeInit as LMBHeInit
from .int8 import LMBInt8 as LMBInt8
from .model import LMBModel as LMBModel


def install() -> None:
    """Registers the package's parts with BasicSR; done on import, again is harmless.

    Raises:
        LMBError: If another package has taken one of the names.
    """
    for architecture in (*ARCHITECTURES, LMBHeInit, LMBInt8):
        register_once(ARCH_REGISTRY, architecture)
    register_once(DATASET_REGISTRY, HRImageDataset)
    register_once(MODEL_REGISTRY, LMBModel)
    _pipeline.install()


install()
