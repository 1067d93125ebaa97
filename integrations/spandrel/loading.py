# SPDX-License-Identifier: Apache-2.0
"""spandrel's loader reads tensors alone: here the header of a packed file goes with them, as one more."""

from __future__ import annotations

import functools
from pathlib import Path

from safetensors import SafetensorError

from ._host import ModelLoader, StateDict
from .described import state_of_packed

_MARK = "_hands_headers_on"


def hand_headers_on() -> None:
    """Changes ``ModelLoader.load_state_dict_from_file``; again without harm. Other files are read as before."""
    original = ModelLoader.load_state_dict_from_file
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def load_state_dict_from_file(self: ModelLoader, path: str | Path) -> StateDict:
        if Path(path).suffix.lower() == ".safetensors":
            try:
                state = state_of_packed(Path(path))
            except (SafetensorError, OSError):
                state = None  # spandrel says what it thinks of it
            if state is not None:
                return state
        return original(self, path)

    setattr(load_state_dict_from_file, _MARK, True)
    ModelLoader.load_state_dict_from_file = load_state_dict_from_file
