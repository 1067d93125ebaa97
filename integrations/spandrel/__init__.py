# SPDX-License-Identifier: Apache-2.0
"""Our networks in spandrel, and so in what loads by it; networks that spandrel loads, binarised and packed.

Importing this package registers packed networks and the training form with spandrel's ``MAIN_REGISTRY``. Import it
before spandrel: with a CPU build of torch and PyPI's torchvision, ``import spandrel`` by itself fails.
"""

from ._host import MissingSpandrelError as MissingSpandrelError
from .architecture import register as _register
from .described import save_described as save_described
from .loading import hand_headers_on as _hand_headers_on
from .networks import load_network as load_network

_register()
_hand_headers_on()
