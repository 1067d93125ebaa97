# SPDX-License-Identifier: Apache-2.0
"""Which modules ``quantize_`` hands to LMBConfig."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.recipe import Recipe
from lmb_quant.rewrite import RecipeLike, matches, plan

ModuleFilter = Callable[[nn.Module, str], bool]


def conv_filter(
    recipe: RecipeLike | None = None, *, ignore: Iterable[str] = (), model: nn.Module | None = None
) -> ModuleFilter:
    """Makes a ``filter_fn`` for ``quantize_`` that selects ``Conv2d`` modules; its default selects ``Linear`` ones.

    With a model the choice is that of :func:`lmb_quant.plan`: tokens are resolved on it, what cannot be binary is left
    out, and a pattern that matches nothing is an error. Without one only names are compared, while torchao walks; that
    each pattern matches a layer is checked where it begins, at the network itself. Subclasses of ``Conv2d`` are never
    selected.

    Args:
        recipe: What :meth:`Recipe.load` takes: selects the layers that it makes binary; needs ``model``.
        ignore: Instead of a recipe, the layers to leave out: globs, ``re:`` and a regular expression, and with a model
            structural tokens (``@first``, ...).
        model: The model that ``quantize_`` gets.

    Returns:
        ``filter_fn(module, fqn)``.

    Raises:
        LMBError: If recipe and ignore are both given, or a recipe or a token without a model.
        RecipeError: As :func:`lmb_quant.plan`, with a model.

    The filter raises LMBError where a pattern in ``ignore`` matches no layer of the network that ``quantize_`` gets.
    """
    ignore = list(ignore)
    if recipe is not None and ignore:
        raise LMBError(f"conv_filter: ignore: {ignore!r} is not allowed beside a recipe, which has its own.")
    if recipe is None:
        chosen = Recipe.load({**Recipe.load("lmb").to_dict(), "ignore": ignore})
    elif model is None:
        raise LMBError(f"conv_filter: recipe: {recipe!r} needs model=..., on which it is resolved.")
    else:
        chosen = Recipe.load(recipe)
    if model is not None:
        names = frozenset(name for layer in plan(model, chosen).binary for name in layer.names)
        return lambda module, fqn: type(module) is nn.Conv2d and fqn in names
    tokens = [pattern for pattern in ignore if pattern.startswith("@")]
    if tokens:
        raise LMBError(f"conv_filter: ignore: {tokens[0]!r} needs model=..., on which it is resolved.")

    def selects(module: nn.Module, fqn: str) -> bool:
        if not fqn:
            _check_patterns(module, ignore)
        return type(module) is nn.Conv2d and not any(matches(pattern, fqn) for pattern in ignore)

    return selects


def _check_patterns(model: nn.Module, ignore: Iterable[str]) -> None:
    modules = model.named_modules(remove_duplicate=False)
    layers = [name for name, module in modules if any(p.ndim >= 2 for p in module.parameters(recurse=False))]
    for pattern in ignore:
        if not any(matches(pattern, name) for name in layers):
            what = unknown_name("layer", pattern, layers[:40])
            raise LMBError(f"conv_filter: ignore: {pattern!r} matches no layer. {what}")
