# SPDX-License-Identifier: Apache-2.0
"""The JSON in a file's header, checked; docs/bit_layout.md is the specification."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lmb_quant.errors import LMBError
from lmb_quant.strict_data import validate

FORMAT_VERSION = 4
"""The version that is written; all from 1 on are read."""
KEY = "lmb_quant"
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class Arch(BaseModel):
    """An architecture of lmb_quant.archs and the arguments that make it."""

    model_config = _STRICT
    type: str
    args: dict[str, Any]


class Encoded(BaseModel):
    """A tensor that is stored in parts: the codec's name, and the words that the codec reads."""

    model_config = _STRICT
    codec: str
    words: dict[str, Any]


class Header(BaseModel):
    """All that a file says beside its tensors; the keys are those of the JSON."""

    model_config = _STRICT
    format_version: int = FORMAT_VERSION
    package_version: str
    arch: Arch | None
    recipe: dict[str, Any] | None = None
    layers: dict[str, dict[str, Any]]
    encoded: dict[str, Encoded] = {}
    stages: list[dict[str, Any]] | None = None
    sha256: str = ""


def to_text(header: Header, tensors: Mapping[str, Tensor]) -> str:
    """The JSON of a header with the checksum that it and the tensors give."""
    data = header.model_dump(exclude={"sha256"})
    return json.dumps(data | {"sha256": checksum(data, tensors)}, sort_keys=True)


def from_text(text: str) -> tuple[Header, dict[str, Any]]:
    """Reads a header.

    Returns:
        The header, and the data that its checksum is over.

    Raises:
        LMBError: If the text is no JSON object, of another format version, or says what is not allowed.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise LMBError("its header is damaged.")
    found = data.get("format_version")
    if type(found) is not int or not 1 <= found <= FORMAT_VERSION:
        raise LMBError(f"format_version: {found!r} is not known here. Allowed: 1 to {FORMAT_VERSION}.")
    header = validate(Header, data, "header")
    return header, {key: value for key, value in data.items() if key != "sha256"}


def checksum(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the header's other keys and all tensors, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
