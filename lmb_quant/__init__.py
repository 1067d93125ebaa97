# SPDX-License-Identifier: Apache-2.0
"""1-bit neural networks for image super-resolution: local-mean binarisation of any PyTorch network."""

from .convert import convert as convert
from .errors import LMBError as LMBError
from .errors import RecipeError as RecipeError
from .export import export_onnx as export_onnx
from .modules import set_precision as set_precision
from .recipe import Recipe as Recipe
from .report import summary as summary
from .rewrite import binarize as binarize
from .rewrite import plan as plan
from .rewrite import recipe_of as recipe_of
from .serialize import from_pretrained as from_pretrained
from .serialize import load as load
from .serialize import save as save
from .upscaling import upscale as upscale

__version__ = "0.1.0"
