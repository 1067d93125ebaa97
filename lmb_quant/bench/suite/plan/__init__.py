# SPDX-License-Identifier: Apache-2.0
"""What is compared: a suite, its methods and images, and the cells that they make."""
