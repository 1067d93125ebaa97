# SPDX-License-Identifier: Apache-2.0
"""What self-contained HTML pages share: their style, and plots as SVG."""

from .figure import STYLE as STYLE
from .figure import add_legend as add_legend
from .figure import label_point as label_point
from .figure import log_axis as log_axis
from .figure import make_figure as make_figure
from .figure import to_svg as to_svg
from .style import page_style as page_style
