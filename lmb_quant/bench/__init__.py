# SPDX-License-Identifier: Apache-2.0
"""Benchmarks. A speed is a ratio of medians from interleaved rounds on one machine."""
