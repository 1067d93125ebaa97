# SPDX-License-Identifier: Apache-2.0
"""Data checked against a pydantic model, with errors as users need them; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lmb_quant.errors import LMBError, unknown_name

_M = TypeVar("_M", bound=BaseModel)


def validate(
    model: type[_M],
    data: Mapping[str, Any],
    place: str,
    error: type[LMBError] = LMBError,
    *,
    section: tuple[str, ...] = (),
) -> _M:
    """Checks data and makes the model.

    Args:
        model: A pydantic model.
        data: Plain data.
        place: Where it stands, for messages.
        error: What is raised.
        section: Keys that lead to ``data`` from what stands at ``place``.

    Raises:
        LMBError: At the first thing that is wrong; names place, key, value and what is allowed.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as found:
        raise error(f"{place}: {_explain(model, found, section)}") from None


def _explain(model: type[BaseModel], error: ValidationError, section: tuple[str, ...]) -> str:
    """Turns pydantic's first complaint into: key: what is wrong, the value, what is allowed."""
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")  # a typo explains what is missing
    location = first["loc"]
    if first["type"] == "extra_forbidden":
        where, key = _dotted((*section, *location[:-1])), location[-1]
        return f"{where}{unknown_name('key', key, _fields(model, location[:-1]))}"
    if first["type"] == "missing":
        return f"{_dotted((*section, *location[:-1]))}the key {location[-1]!r} is missing."
    return f"{_dotted((*section, *location))}{first['input']!r} is not allowed. {first['msg']}."


def _dotted(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return f"{text}: " if text else ""


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at a place, read from the JSON schema."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in location:
        node = node["items"] if isinstance(part, int) else node.get("properties", {}).get(part) or _values(node)
        for option in node.get("anyOf", [node]):
            if "$ref" in option:
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[1]]
    return list(node.get("properties", {}))


def _values(node: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping's values where its keys are free."""
    for values in (*node.get("patternProperties", {}).values(), node.get("additionalProperties")):
        if isinstance(values, dict):
            return values
    return {}
