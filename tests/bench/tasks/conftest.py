# SPDX-License-Identifier: Apache-2.0
"""The tasks need both hosts."""

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("basicsr", "timm", "skimage", "scipy", "jinja2")):
    collect_ignore_glob = ["test_*.py"]
