# SPDX-License-Identifier: Apache-2.0
"""1-bit neural networks for image super-resolution: local-mean binarisation of any PyTorch network.

Public names are loaded when they are first used: a command that needs no torch does not wait for it. The operators of a
program that torch.export saved are registered by ``import lmb_quant.ops``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import LMBError as LMBError
from .errors import RecipeError as RecipeError

if TYPE_CHECKING:
    from .counting import summary as summary
    from .export import export_onnx as export_onnx
    from .modules import set_precision as set_precision
    from .modules import set_real_arithmetic as set_real_arithmetic
    from .packing import convert as convert
    from .recipe import Recipe as Recipe
    from .rewrite import binarize as binarize
    from .rewrite import plan as plan
    from .rewrite import recipe_of as recipe_of
    from .serialize import from_pretrained as from_pretrained
    from .serialize import load as load
    from .serialize import save as save
    from .unpacking import unpack as unpack
    from .upscaling import upscale as upscale
    from .versions import __version__ as __version__

_PLACES = {
    "Recipe": "recipe",
    "binarize": "rewrite",
    "convert": "packing",
    "export_onnx": "export",
    "from_pretrained": "serialize",
    "load": "serialize",
    "plan": "rewrite",
    "recipe_of": "rewrite",
    "save": "serialize",
    "set_precision": "modules",
    "set_real_arithmetic": "modules",
    "summary": "counting",
    "unpack": "unpacking",
    "upscale": "upscaling",
    "__version__": "versions",
}
"""Public name -> its module. No module has the name of one: as a submodule it would take its place."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
