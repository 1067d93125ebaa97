# SPDX-License-Identifier: Apache-2.0
"""What one bit for each activation costs a network, layer by layer, and what would cost less.

``lmb-quant analyze`` shows it as a page; here the same figures are plain data.

Example:
    >>> from lmb_quant.analysis import analyze, read_photographs, source_of
    >>> found = analyze([source_of("lmb_small_x4")], read_photographs(limit=2), side=16)
    >>> found.networks[0].label
    'lmb_small_x4'
"""

from .advice import Advice as Advice
from .advice import advise as advise
from .images import Photograph as Photograph
from .images import read_photographs as read_photographs
from .measure import Analysis as Analysis
from .measure import NetworkFigures as NetworkFigures
from .measure import analyze as analyze
from .sources import Source as Source
from .sources import source_of as source_of
