# SPDX-License-Identifier: Apache-2.0
"""LMBConfig, and what torchao's ``quantize_`` does with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn
from typing_extensions import Self

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.modules import BinaryConv2d, LayerConfig
from lmb_quant.rewrite import keeps_shape, why_not_binary

from ._host import ALLOWED_AO_MODULES, AOBaseConfig, register_quantize_module_handler

STEPS = ("prepare", "convert", "prepare_for_loading")
_VERSION = 1


@dataclass(kw_only=True)
class LMBConfig(AOBaseConfig):
    """Binarises the ``Conv2d`` modules that ``quantize_`` hands over; the defaults are the scheme of recipe ``lmb``.

    The words are those of :class:`lmb_quant.modules.LayerConfig`; options that are not given are filled in. ``skip`` is
    for the caller to decide, since torchao shows a handler one module and not the network around it: ``True`` needs a
    convolution that keeps the shape of its input. :func:`to_torchao` decides it for each layer, as a recipe says.

    ``step``: ``prepare`` gives the training form. ``version`` is that of these fields.

    Raises:
        LMBError: If a value is not allowed.

    Example:
        >>> from torch import nn
        >>> from torchao.quantization import quantize_
        >>> from lmb_quant.integrations.torchao import conv_filter
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1))
        >>> quantize_(net, LMBConfig(skip=True), filter_fn=conv_filter(ignore=["0"]))
        >>> type(net[1]).__name__
        'BinaryConv2d'
    """

    activation: str = "local_mean"
    activation_options: dict[str, Any] = field(default_factory=lambda: {"window": 3, "surrogate": "approx_sign"})
    weight: str = "sign"
    weight_options: dict[str, Any] = field(default_factory=lambda: {"surrogate": "adaptive_triangle"})
    alpha: str = "channel_mean"
    norm: str = "none"
    act: str = "rprelu"
    skip: bool = False
    step: str = "prepare"
    version: int = _VERSION

    def __post_init__(self) -> None:
        if self.version != _VERSION:
            raise LMBError(f"LMBConfig: version: {self.version!r} is not allowed. Allowed: {_VERSION}.")
        if self.step not in STEPS:
            raise LMBError(f"LMBConfig: {unknown_name('step', self.step, STEPS)}")
        if self.step != "prepare":
            raise LMBError(
                f"LMBConfig: step: {self.step!r} makes the packed form, not here yet; lmb_quant.convert can. "
                "Allowed: 'prepare'."
            )
        if not isinstance(self.skip, bool):
            raise LMBError(
                f"LMBConfig: skip: {self.skip!r} is not allowed. Allowed: True, False; to_torchao decides it by layer."
            )
        try:
            filled = BinaryConv2d.from_float(nn.Conv2d(1, 1, 1, device="meta"), self.layer_config()).config
        except LMBError as error:
            raise LMBError(f"LMBConfig: {error}") from None
        self.activation_options, self.weight_options = filled.activation_options, filled.weight_options

    @classmethod
    def from_layer(cls, layer: LayerConfig) -> Self:
        """The config that makes exactly the layer that ``layer`` describes."""
        return cls(**asdict(layer))

    def layer_config(self) -> LayerConfig:
        """What :meth:`BinaryConv2d.from_float` takes."""
        return LayerConfig(**{key: value for key, value in asdict(self).items() if key not in ("step", "version")})


@register_quantize_module_handler(LMBConfig)
def binarize_module(module: nn.Module, config: LMBConfig) -> nn.Module:
    """Turns a ``Conv2d`` into its binary training form, in place.

    In place, so that a module used in several places changes at all of them, and one that is the whole model is not
    lost: torchao visits a shared module under one name, and cannot replace a root.

    Args:
        module: The convolution; one that is binary already, in this form, is left as it is.
        config: Its binary form.

    Returns:
        The same object, now a :class:`BinaryConv2d`.

    Raises:
        LMBError: If the module cannot be binary in this form.
    """
    layer = config.layer_config()
    if isinstance(module, BinaryConv2d):
        if module.config != layer:
            raise LMBError(
                f"LMBConfig: the layer is binary already, in another way: {module.config}. "
                f"This config asks for: {layer}. Start from the float network."
            )
        return module
    _check(module, layer)
    assert isinstance(module, nn.Conv2d)
    binary = BinaryConv2d.from_float(module, layer)
    module.__class__ = BinaryConv2d
    vars(module).clear()
    vars(module).update(vars(binary))
    return module


def _check(module: nn.Module, layer: LayerConfig) -> None:
    problem = _problem(module, layer)
    if problem is not None:
        raise LMBError(f"LMBConfig: {module} cannot become binary: {problem}. conv_filter(...) leaves layers out.")


def _problem(module: nn.Module, layer: LayerConfig) -> str | None:
    reason = why_not_binary(module)
    if reason is None and isinstance(module, nn.Conv2d) and layer.skip and not keeps_shape(module):
        return "skip: True, but input and output differ in shape; allowed is False"
    return reason


ALLOWED_AO_MODULES.add("lmb_quant.integrations.torchao")  # where config_from_dict looks for class names
