# SPDX-License-Identifier: Apache-2.0
"""Two tasks on the same photographs: upscaling them, and telling which of them a patch is from."""

from .run import run_tasks as run_tasks
from .run import show_tasks as show_tasks
