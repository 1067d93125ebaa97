# SPDX-License-Identifier: Apache-2.0
"""The training form of a binary convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor, nn

from lmb_quant.binarizers import ActivationBinarizer, WeightBinarizer, make_activation, make_weight
from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.ops import check_weight_scale, weight_scale
from lmb_quant.ops.binary_conv2d.spec import ACT_ON
from lmb_quant.rescalers import Rescaler, make_rescaler

from . import engine_path
from .activation import IDENTITY, NONE, make_act
from .norm import make_norm


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """All that decides the binary form of one convolution; plain values that JSON holds.

    The words are those of a recipe: ``activation`` and ``weight`` name binarisers, ``alpha`` a weight scale, ``norm``
    and ``act`` what follows the convolution. ``skip`` adds the input to the output; ``act_on`` says whether ``act`` is
    applied before that (``branch``) or after it (``sum``). ``pre_norm`` is a norm of the input, before everything but
    the skip; ``rescale`` names a rescaler. ``chain`` is how many layers in a row share the state of binarisers that
    accumulate along the depth. A module holds it with every option of its parts, given or default.
    """

    activation: str
    activation_options: dict[str, Any]
    weight: str
    weight_options: dict[str, Any]
    alpha: str = "channel_mean"
    norm: str = "none"
    act: str = "none"
    skip: bool = False
    act_on: str = "branch"
    pre_norm: str = NONE
    rescale: str = NONE
    rescale_options: dict[str, Any] = field(default_factory=dict)
    chain: int = 1


class BinaryConv2d(nn.Conv2d):
    """A convolution with 1-bit activations and weights, and what surrounds it: norm, activation, identity skip.

    ``y = act(norm(alpha * conv(B, Sign(W)) + bias)) [+ x]``, B the binarised input, alpha one scale per output channel.
    With ``act_on: sum`` it is ``act(norm(...) + x)``; with a ``pre_norm`` B is made of the normalised x; a rescaler's
    factor multiplies ``alpha * conv(B, Sign(W))``, before the bias. Padding adds 0 to the sum, as in the float network.
    The float weights stay as the trained (latent) ones, under the keys of the float convolution; a float checkpoint
    loads strictly, what it lacks keeps its present value.

    Made by :meth:`from_float`, not by its constructor.

    Source:
        The unit is this project's choice (the identity skip over each convolution: Bi-Real Net, arXiv 1808.00278).
    """

    config: LayerConfig
    binarize_input: ActivationBinarizer
    binarize_weight: WeightBinarizer
    pre_norm: nn.Module | None
    rescale: Rescaler | None
    norm: nn.Module
    act: nn.Module

    engine: bool = True
    """Whether the engine runs this layer where it can; False is plain PyTorch, the definition."""

    bf16_gradients: bool = False
    """Whether gradient convolutions run by oneDNN in bfloat16, see :func:`lmb_quant.set_precision`."""

    @classmethod
    def from_float(cls, conv: nn.Conv2d, config: LayerConfig) -> Self:
        """Makes the binary form of ``conv``; weight and bias are shared by identity, hooks and mode are carried over.

        Args:
            conv: The float convolution, with zero padding; it is not changed.
            config: The binary form. With ``skip`` the convolution must keep the shape of its input.

        Raises:
            LMBError: If a name or an option in ``config`` is unknown or not allowed.
        """
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        shared = ("_parameters", "_buffers", "_modules")
        new.__dict__.update({key: value for key, value in conv.__dict__.items() if key not in shared})
        new._parameters = dict(conv._parameters)
        new.binarize_input = make_activation(conv, config.activation, config.activation_options)
        new.binarize_weight = make_weight(conv, config.weight, config.weight_options)
        new.pre_norm = None if config.pre_norm == NONE else make_norm(config.pre_norm, conv.in_channels)
        new.rescale = None
        if config.rescale != NONE:
            new.rescale = make_rescaler(conv, config.rescale, config.rescale_options)
        new.config = replace(
            config,
            activation_options=new.binarize_input.get_options(),
            weight_options=new.binarize_weight.get_options(),
            rescale_options={} if new.rescale is None else new.rescale.get_options(),
        )
        if config.act_on not in ACT_ON:
            raise LMBError(unknown_name("unit act_on", config.act_on, ACT_ON))
        new.norm = make_norm(config.norm, conv.out_channels)
        new.act = make_act(config.act, conv.out_channels)
        check_weight_scale(config.alpha)
        for part in new.children():
            part.to(conv.weight.device, conv.weight.dtype).train(conv.training)
        return new

    @property
    def replaces_act(self) -> bool:
        """Whether the unit's activation function, ``identity`` included, takes the place of the network's own."""
        return self.config.act != NONE or not isinstance(self.act, nn.Identity)

    @property
    def has_skip(self) -> bool:
        """Whether the input is added to the output."""
        return self.config.skip

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed form: bits of the weight, and in float32 its scale and all other parameters of the unit.

        A norm is folded into scale and bias, so it counts as a bias.
        """
        outputs, inputs, *kernel = self.weight.shape
        packed = outputs * math.prod(kernel) * math.ceil(inputs / 8) * self.binarize_weight.bases
        parts = (self.binarize_weight, self.pre_norm, self.rescale, self.act)
        unit = [*self._threshold_tensors(), *(p for part in parts if part is not None for p in part.parameters())]
        has_bias = self.bias is not None or not isinstance(self.norm, nn.Identity)
        slope = isinstance(self.act, nn.LeakyReLU) or self.config.act == IDENTITY
        return packed + 4 * (
            outputs * self.binarize_weight.bases + outputs * has_bias + slope + sum(p.numel() for p in unit)
        )

    def _threshold_tensors(self) -> list[Tensor]:
        """What the packed form stores of the threshold, learned or fixed; the parameters where it has no such form."""
        try:
            threshold = self.binarize_input.packed_threshold()
        except LMBError:
            threshold = None
        if threshold is None:
            return list(self.binarize_input.parameters())
        return [values for values in (threshold.shift, threshold.gain) if values is not None]

    def unit_macs(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Real multiplications of one run, beside those of convolutions and linear layers inside the unit's parts.

        Those of norms and activation functions are not counted, as nowhere, but for a ``pre_norm`` whose values a
        rescaler reads: it cannot become a threshold. Where several binary convolutions stand for one, adding each
        beyond the first with its scale is one for an output value.

        Args:
            before: Size of the input, ``(N, I, H, W)``.
            after: Size of the output, ``(N, O, H', W')``.
        """
        values, bases = math.prod(before), self.binarize_input.bases * self.binarize_weight.bases
        macs = self.binarize_input.macs_per_value * values + (bases - 1) * math.prod(after)
        if self.rescale is not None:
            macs += self.rescale.macs(before, after) + values * (self.pre_norm is not None)
        return macs

    def unit_additions(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """Real additions of one run that a float network does not have; sizes as in :meth:`unit_macs`."""
        additions = self.binarize_input.additions_per_value * math.prod(before)
        return additions + (0 if self.rescale is None else self.rescale.additions(before, after))

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, I, H, W)`` to ``(N, O, H', W')``; also unbatched, as ``nn.Conv2d``."""
        if input.ndim == 3:
            return self.forward(input[None])[0]
        return engine_path.run(self, input) if engine_path.takes(self, input) else self.reference(input)

    def reference(self, input: Tensor) -> Tensor:
        """The unit in plain PyTorch, which defines its values: ``(N, I, H, W)`` to ``(N, O, H', W')``."""
        x = input if self.pre_norm is None else self.pre_norm(input)
        factor = None
        if self.rescale is not None:
            x, factor = self.rescale(x)
        # sums of -1 and +1 are exact, so that an activation function's kink is met by equal values everywhere
        y = self._conv_forward(self.binarize_input(x), self.binarize_weight(self.weight), None)
        y = y * _per_channel(weight_scale(self.weight, self.config.alpha), y)
        if factor is not None:
            y = y * factor
        if self.bias is not None:
            y = y + _per_channel(self.bias, y)
        return self.finish(self.norm(y), input)

    def finish(self, y: Tensor, input: Tensor) -> Tensor:
        """Activation function and skip: the last steps of a unit."""
        if not self.config.skip:
            return self.act(y)
        return self.act(y + input) if self.config.act_on == "sum" else self.act(y) + input

    @property
    def trains_by(self) -> str:
        """What runs this layer in training: ``"engine"``, or ``"reference: "`` and the reason."""
        reason = engine_path.why_reference(self)
        return f"reference: {reason}" if reason else "engine"

    def extra_repr(self) -> str:
        """As ``nn.Conv2d``, with scale and skip."""
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]
        c = self.config
        order = f", act_on={c.act_on}" if c.act_on != "branch" else ""
        return f"{plain}, alpha={c.alpha}, skip={c.skip}{order}, trains_by={self.trains_by}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = {f"{prefix}{key}": value for key, value in self.state_dict().items() if key not in ("weight", "bias")}
        if f"{prefix}weight" in state_dict and not any(key in state_dict for key in own):  # a float checkpoint
            state_dict.update({key: value for key, value in own.items() if not value.is_meta})
        super()._load_from_state_dict(state_dict, prefix, *args)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(1, -1, 1, 1)


def binary_convs(model: nn.Module) -> Iterator[BinaryConv2d]:
    """Yields every :class:`BinaryConv2d` of a model, each once."""
    return (module for module in model.modules() if isinstance(module, BinaryConv2d))
