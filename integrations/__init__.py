# SPDX-License-Identifier: Apache-2.0
"""Bridges to host packages, one folder each; a host is imported by its own folder only."""
