# SPDX-License-Identifier: Apache-2.0
"""Doing cells: each is trained and evaluated in a process of its own, on this machine or on a cluster."""
