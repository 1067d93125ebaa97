# SPDX-License-Identifier: Apache-2.0
"""The analysis as one self-contained HTML page, with its figures as PNG and CSV beside it."""

from .write import check_output as check_output
from .write import write_report as write_report
