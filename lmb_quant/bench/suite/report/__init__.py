# SPDX-License-Identifier: Apache-2.0
"""The report of a suite: Markdown, CSV and one HTML page that needs nothing else."""
