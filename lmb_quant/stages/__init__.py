# SPDX-License-Identifier: Apache-2.0
"""A network as a list of stages, which the engine runs in one call; docs/stages.md has the list."""

from .entry import forward as forward
from .entry import network_for as network_for
from .entry import network_of as network_of
from .entry import require_int8 as require_int8
from .entry import why_not as why_not
from .names import described as described
from .stage import Act as Act
from .stage import Add as Add
from .stage import AddUpscaled as AddUpscaled
from .stage import Binary as Binary
from .stage import Conv as Conv
from .stage import Range as Range
from .stage import Shuffle as Shuffle
from .stage import Stage as Stage
from .stage import Stages as Stages
from .stage import Upscale as Upscale
