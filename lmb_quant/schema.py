# SPDX-License-Identifier: Apache-2.0
"""The JSON schema of recipes, with the names and options that are registered, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmb_quant.binarizers import activation_binarizers, weight_binarizers
from lmb_quant.modules import ACTIVATIONS, NORMS
from lmb_quant.ops import WEIGHT_SCALES
from lmb_quant.parts import Part, options_model
from lmb_quant.recipe import Recipe
from lmb_quant.rescalers import rescalers


def recipe_schema() -> dict[str, Any]:
    """Builds the schema (JSON Schema 2020-12): names of binarisers and rescalers, options, scales, norms, acts."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    for choice, table in (
        ("BinarizerChoice", activation_binarizers()),
        ("ActivationOverride", activation_binarizers()),
        ("WeightChoice", weight_binarizers()),
        ("WeightOverride", weight_binarizers()),
    ):
        _add_parts(definitions[choice], "binarizer", table)
    _add_parts(definitions["RescaleChoice"], "rescaler", rescalers())
    for choice in ("WeightChoice", "WeightOverride"):
        _allow(definitions[choice]["properties"]["scale"], list(WEIGHT_SCALES))
    for choice in ("Unit", "UnitOverride"):
        for key in ("norm", "pre_norm"):
            _allow(definitions[choice]["properties"][key], list(NORMS))
        _allow(definitions[choice]["properties"]["act"], list(ACTIVATIONS))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _add_parts(definition: dict[str, Any], word: str, table: Mapping[str, type[Part]]) -> None:
    _allow(definition["properties"][word], sorted(table))
    for name in sorted(table):
        for key, option in options_model(table[name]).model_json_schema().get("properties", {}).items():
            definition["properties"].setdefault(key, {}).setdefault("anyOf", []).append(
                {**option, "description": f"option of {name}"}
            )
    definition["additionalProperties"] = False


def _allow(node: dict[str, Any], names: list[str]) -> None:
    target = next((option for option in node.get("anyOf", []) if option.get("type") == "string"), node)
    target["enum"] = names
