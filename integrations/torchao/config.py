# SPDX-License-Identifier: Apache-2.0
"""LMBConfig, and what torchao's ``quantize_`` does with it."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, fields, make_dataclass
from typing import Any, Self

from torch import nn

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.modules import BinaryConv2d, LayerConfig, PackedBinaryConv2d
from lmb_quant.rewrite import keeps_shape, recipe_of, remember_recipe, why_not_binary

from ._host import ALLOWED_AO_MODULES, AOBaseConfig, register_quantize_module_handler

STEPS = ("prepare", "convert", "prepare_for_loading")
_VERSION = 1
_ACTIVATION = {"local_mean": {"window": 3, "surrogate": "approx_sign"}}
_WEIGHT = {"sign": {"surrogate": "adaptive_triangle"}}


# The words of a layer, each None where it is not given.
_Words: Any = make_dataclass(
    "_Words",
    [(field.name, f"{field.type} | None", None) for field in fields(LayerConfig)],
    bases=(AOBaseConfig,),
    kw_only=True,
)


@dataclass(kw_only=True)
class LMBConfig(_Words):
    """Binarises or packs the convolutions that ``quantize_`` hands over.

    The words are those of :class:`lmb_quant.modules.LayerConfig`; those not given are the scheme of recipe ``lmb``.
    ``skip`` is for the caller to decide, since torchao shows a handler one module and not the network around it:
    ``True`` needs a convolution that keeps the shape of its input. :func:`to_torchao` decides it for each layer, as a
    recipe says. ``version`` is that of these fields.

    ======================= ========================================== =========================================
    ``step``                takes                                      gives
    ======================= ========================================== =========================================
    ``prepare``             ``Conv2d``                                 its training form
    ``convert``             a training form                            its packed form, for inference
    ``prepare_for_loading`` ``Conv2d``, also on the meta device, or a  an empty packed form, for
                            training form                              ``load_state_dict(..., assign=True)``
    ======================= ========================================== =========================================

    At ``convert`` a layer has its words already: those not given are whatever they are, those given must be the same.

    Raises:
        LMBError: If a value is not allowed.

    Example:
        >>> from torch import nn
        >>> from torchao.quantization import quantize_
        >>> from lmb_quant.integrations.torchao import conv_filter, is_binary
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1))
        >>> quantize_(net, LMBConfig(skip=True), filter_fn=conv_filter(ignore=["0"]))
        >>> type(net[1]).__name__
        'BinaryConv2d'
        >>> quantize_(net, LMBConfig(step="convert"), filter_fn=is_binary)
        >>> type(net[1]).__name__
        'PackedBinaryConv2d'
    """

    step: str = "prepare"
    version: int = _VERSION

    def __post_init__(self) -> None:
        if self.version != _VERSION:
            raise LMBError(f"LMBConfig: version: {self.version!r} is not allowed. Allowed: {_VERSION}.")
        if self.step not in STEPS:
            raise LMBError(f"LMBConfig: {unknown_name('step', self.step, STEPS)}")
        if not isinstance(self.skip, bool | None):
            raise LMBError(
                f"LMBConfig: skip: {self.skip!r} is not allowed. Allowed: True, False; to_torchao decides it by layer."
            )
        if self.step != "convert":
            try:
                filled = BinaryConv2d.from_float(nn.Conv2d(1, 1, 1, device="meta"), self._completed()).config
            except LMBError as error:
                raise LMBError(f"LMBConfig: {error}") from None
            for key, value in asdict(filled).items():
                setattr(self, key, value)
        if self.chain not in (None, 1):
            raise LMBError(
                f"LMBConfig: chain: {self.chain!r} is not allowed. Allowed: 1; torchao shows a handler one layer at a "
                "time, and layers that share state along the depth are linked by lmb_quant.binarize()."
            )

    @classmethod
    def from_layer(cls, layer: LayerConfig, step: str = "prepare") -> Self:
        """The config that makes exactly the layer that ``layer`` describes."""
        return cls(**asdict(layer), step=step)

    def words(self) -> dict[str, Any]:
        """What was given of the words of a :class:`LayerConfig`; all of them, unless ``step`` is ``convert``."""
        own = {key: value for key, value in vars(self).items() if key not in ("step", "version")}
        return {key: value for key, value in own.items() if value is not None}

    def layer_config(self) -> LayerConfig:
        """What :meth:`BinaryConv2d.from_float` takes; not for ``convert``."""
        return LayerConfig(**self.words())

    def _completed(self) -> LayerConfig:
        activation, weight = self.activation or "local_mean", self.weight or "sign"
        scheme: dict[str, Any] = {
            "activation": activation,
            "activation_options": _ACTIVATION.get(activation, {}),
            "weight": weight,
            "weight_options": _WEIGHT.get(weight, {}),
            "act": "rprelu",
        }
        return LayerConfig(**scheme | self.words())


@register_quantize_module_handler(LMBConfig)
def apply_to_module(module: nn.Module, config: LMBConfig) -> nn.Module:
    """Makes of a module what the config's step gives, in place; what it is already is left as it is.

    In place, so that a module used in several places changes at all of them, and one that is the whole model is not
    lost: torchao visits a shared module under one name, and cannot replace a root.

    Args:
        module: The convolution.
        config: Its form.

    Returns:
        The same object, of another class.

    Raises:
        LMBError: If the module cannot have this form; then it is not changed.
    """
    make = {"prepare": _prepared, "convert": _packed, "prepare_for_loading": _empty}[config.step]
    new = make(module, config)
    recipe = recipe_of(module)  # known where the module is the whole model
    if recipe is not None:
        remember_recipe(new, recipe)
    if new is not module:
        module.__class__ = type(new)
        vars(module).clear()
        vars(module).update(vars(new))
    return module


def _prepared(module: nn.Module, config: LMBConfig) -> nn.Module:
    layer = config.layer_config()
    if isinstance(module, BinaryConv2d):
        _check_words(module, config)
        return module
    reason = why_not_binary(module)
    if reason is None and isinstance(module, nn.Conv2d) and layer.skip and not keeps_shape(module):
        reason = "skip: True, but input and output differ in shape; allowed is False"
    if reason is not None:
        raise LMBError(f"LMBConfig: {module} cannot become binary: {reason}. conv_filter(...) leaves layers out.")
    assert isinstance(module, nn.Conv2d)
    return BinaryConv2d.from_float(module, layer)


def _packed(module: nn.Module, config: LMBConfig) -> nn.Module:
    if isinstance(module, PackedBinaryConv2d):
        return module
    if not isinstance(module, BinaryConv2d):
        raise LMBError(
            f"LMBConfig: {module} cannot be packed: it is not binary. Binarise it first (step 'prepare'); is_binary "
            "selects what can be packed."
        )
    _check_words(module, config)
    try:
        return PackedBinaryConv2d.from_binary(module)
    except LMBError as error:
        raise LMBError(f"LMBConfig: {module} cannot be packed: {error}") from None


def _empty(module: nn.Module, config: LMBConfig) -> nn.Module:
    """The packed form of what the same words make of the module, found on the meta device."""
    if isinstance(module, PackedBinaryConv2d):
        return module
    if isinstance(module, BinaryConv2d):
        _check_words(module, config)
        binary: nn.Module = copy.deepcopy(module).to("meta")
    else:
        skeleton = copy.copy(module)
        vars(skeleton)["_parameters"] = {
            name: None if p is None else nn.Parameter(p.detach().to("meta")) for name, p in module._parameters.items()
        }
        binary = _prepared(skeleton, config)
    packed = _packed(binary, config)
    assert isinstance(packed, PackedBinaryConv2d)
    return PackedBinaryConv2d(packed.config, device=next(module.parameters()).device).train(module.training)


def _check_words(module: BinaryConv2d, config: LMBConfig) -> None:
    """A layer that is binary already must be so in the way that the config's words say."""
    layer = asdict(module.config)
    for key, asked in config.words().items():
        same = asked.items() <= layer[key].items() if isinstance(asked, dict) else asked == layer[key]
        if not same:
            raise LMBError(
                f"LMBConfig: {key}: {asked!r} is asked for, but the layer is binary already, in another way: "
                f"{layer[key]!r}. Start from the float network."
            )


def is_binary(module: nn.Module, fqn: str) -> bool:
    """A ``filter_fn`` for ``quantize_`` that selects what ``LMBConfig(step="convert")`` packs.

    Args:
        module: Any module.
        fqn: Its name, which does not matter.
    """
    return isinstance(module, BinaryConv2d)


ALLOWED_AO_MODULES.add("lmb_quant.integrations.torchao")  # where config_from_dict looks for class names
