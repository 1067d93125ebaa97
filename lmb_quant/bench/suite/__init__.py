# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite: every method on every network under one protocol, trained through BasicSR's pipeline."""
