# SPDX-License-Identifier: Apache-2.0
"""The packed operator's specification: its arguments, and its activation functions. All else is derived from it.

The operator's schema, the checks, the engine's description of a layer, the packed module's buffers, the reference and
the ONNX export read the tables below. :mod:`.reference` says what is computed, docs/bit_layout.md how it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.ops.threshold import THRESHOLDS

ACT_ON = ("branch", "sum")
"""Whether the activation function is taken of the branch, before the skip, or of the sum; by the engine's number."""
MAX_CHANNELS, MAX_KERNEL, MAX_STEP, MAX_PADDING = 1 << 16, 31, 1 << 10, 1 << 14
"""The engine's limits: of channels, and along each side of the kernel, of stride and dilation, and of the padding."""


class LayerArguments(NamedTuple):
    """What the operator takes beside the input, in its order; tensors first, which :data:`TENSORS` describes."""

    weight_packed: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    shift: Tensor | None
    gain: Tensor | None
    slope: Tensor | None
    gamma: Tensor | None
    zeta: Tensor | None
    pixel_factor: Tensor | None
    kernel_size: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    threshold: str
    window: int
    act: str
    act_on: str
    skip: bool

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors among them."""
        return tuple(getattr(self, name) for name in TENSORS)

    @property
    def scalars(self) -> tuple[Any, ...]:
        """All others, hashable."""
        values = (getattr(self, name) for name in SCALARS)
        return tuple(tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for v in values)


@dataclass(frozen=True)
class TensorArgument:
    """A tensor of the operator; one dimension, float32, but for ``weight_packed``.

    ``buffer`` is its name in the packed module and so in a file, ``member`` that in the engine's ``lmbq_layer_desc``.
    ``given`` says when there is one: ``always``, by the ``flag`` of its own name in a layer's configuration, or where
    the ``act`` needs it. ``length`` is how many values it has, of inputs I and outputs O.
    """

    buffer: str
    member: str
    given: Literal["always", "flag", "act"]
    length: Callable[[int, int], int]


def _inputs(inputs: int, outputs: int) -> int:
    return inputs


def _outputs(inputs: int, outputs: int) -> int:
    return outputs


TENSORS: Mapping[str, TensorArgument] = {
    "weight_packed": TensorArgument("weight_packed", "weight", "always", _outputs),
    "weight_scale": TensorArgument("weight_scale", "scale", "always", _outputs),
    "bias": TensorArgument("bias", "bias", "flag", _outputs),
    "shift": TensorArgument("threshold_shift", "thresholds", "flag", _inputs),
    "gain": TensorArgument("threshold_gain", "gain", "flag", _inputs),
    "slope": TensorArgument("act_slope", "slope", "act", _outputs),
    "gamma": TensorArgument("act_gamma", "gamma", "act", _outputs),
    "zeta": TensorArgument("act_zeta", "zeta", "act", _outputs),
    "pixel_factor": TensorArgument("pixel_factor", "pixel_factor", "flag", lambda inputs, outputs: inputs + 1),
}
SCALARS = LayerArguments._fields[len(TENSORS) :]
"""Names of the arguments that are no tensors."""


@dataclass(frozen=True)
class Act:
    """An activation function of the packed operator.

    ``code`` is the engine's ``lmbq_act``; ``tensors`` are the arguments it needs, O values each, or with
    ``may_share_slope`` one for all channels. ``words`` is what of the training form becomes it, for messages;
    ``read`` gives a module's values by argument, None for a module that is another function. ``make`` makes the
    training form for O channels, where a recipe may name the function and torch has it. ``onnx`` computes it by
    standard operators, of ``op``, the values and the layer's arguments.
    """

    code: int
    words: str
    read: Callable[[nn.Module], dict[str, Tensor] | None]
    onnx: Callable[[Any, Any, LayerArguments], Any]
    tensors: tuple[str, ...] = ()
    may_share_slope: bool = False
    make: Callable[[int], nn.Module] | None = None

    def slope_counts(self, outputs: int) -> tuple[int, ...]:
        """How many slopes are allowed for O outputs; 0 where the function has none."""
        if "slope" not in self.tensors:
            return (0,)
        return (1, outputs) if self.may_share_slope else (outputs,)


@runtime_checkable
class PackableAct(Protocol):
    """An activation function of this package that says its own packed form."""

    def packed_act(self) -> tuple[str, dict[str, Tensor]]:
        """The name in :data:`ACTS`, and the values by argument."""


def _read_prelu(act: nn.Module) -> dict[str, Tensor] | None:
    if isinstance(act, nn.LeakyReLU):
        return {"slope": torch.tensor([act.negative_slope])}
    return {"slope": act.weight} if isinstance(act, nn.PReLU) else None


def _read_hardtanh(act: nn.Module) -> dict[str, Tensor] | None:
    limits = (act.min_val, act.max_val) if type(act) is nn.Hardtanh else None  # not ReLU6, which is one of 0 to 6
    return {} if limits == (-1, 1) else None


def _onnx_hardtanh(op: Any, y: Any, a: LayerArguments) -> Any:
    return op.Clip(y, op.Constant(value_float=-1.0), op.Constant(value_float=1.0))


def _onnx_prelu(op: Any, y: Any, a: LayerArguments) -> Any:
    return op.Where(op.Greater(y, op.Constant(value_float=0.0)), y, op.Mul(y, a.slope))


def _onnx_rprelu(op: Any, y: Any, a: LayerArguments) -> Any:
    moved = op.Sub(y, a.gamma)
    return op.Add(op.Where(op.Greater(y, a.gamma), moved, op.Mul(a.slope, moved)), a.zeta)


ACTS: Mapping[str, Act] = {
    "none": Act(
        code=0,
        words="",
        read=lambda act: {} if isinstance(act, nn.Identity) else None,
        onnx=lambda op, y, a: y,
    ),
    "relu": Act(
        code=1,
        words="ReLU",
        read=lambda act: {} if isinstance(act, nn.ReLU) else None,
        onnx=lambda op, y, a: op.Relu(y),
    ),
    "prelu": Act(
        code=3,
        words="LeakyReLU, PReLU",
        read=_read_prelu,
        onnx=_onnx_prelu,
        tensors=("slope",),
        may_share_slope=True,
        make=nn.PReLU,
    ),
    "rprelu": Act(
        code=4,
        words="RPReLU",
        read=lambda act: None,  # it says its own packed form
        onnx=_onnx_rprelu,
        tensors=("slope", "gamma", "zeta"),
    ),
    "hardtanh": Act(
        code=5,
        words="Hardtanh of -1 to 1",
        read=_read_hardtanh,
        onnx=_onnx_hardtanh,
        make=lambda channels: nn.Hardtanh(),
    ),
    "silu": Act(
        code=6,
        words="SiLU",
        read=lambda act: {} if isinstance(act, nn.SiLU) else None,
        onnx=lambda op, y, a: op.Mul(y, op.Sigmoid(y)),
        make=lambda channels: nn.SiLU(),
    ),
}

ENGINE_INTEGERS: Mapping[str, Callable[[LayerArguments, int], int]] = {
    "isa": lambda a, inputs: 0,  # the one that is selected
    "in_channels": lambda a, inputs: inputs,
    "out_channels": lambda a, inputs: len(a.weight_packed),
    "groups": lambda a, inputs: a.groups,
    "kernel_h": lambda a, inputs: a.kernel_size[0],
    "kernel_w": lambda a, inputs: a.kernel_size[1],
    "stride_h": lambda a, inputs: a.stride[0],
    "stride_w": lambda a, inputs: a.stride[1],
    "dilation_h": lambda a, inputs: a.dilation[0],
    "dilation_w": lambda a, inputs: a.dilation[1],
    "pad_top": lambda a, inputs: a.padding[0],
    "pad_left": lambda a, inputs: a.padding[1],
    "pad_bottom": lambda a, inputs: a.padding[2],
    "pad_right": lambda a, inputs: a.padding[3],
    "threshold": lambda a, inputs: THRESHOLDS.index(a.threshold),
    "window": lambda a, inputs: a.window,
    "act": lambda a, inputs: ACTS[a.act].code,
    "slope_count": lambda a, inputs: 0 if a.slope is None else a.slope.numel(),
    "act_on": lambda a, inputs: ACT_ON.index(a.act_on),
}
"""The int32 members of ``lmbq_layer_desc``, in its order, of the arguments and the number of inputs.

Before them is the size of the structure, after them that of the weight, then the :data:`TENSORS`.
"""


def packed_act(module: nn.Module) -> tuple[str, dict[str, Tensor]]:
    """The activation function of :data:`ACTS` that a training form is, and its values by argument.

    Raises:
        LMBError: If there is none.
    """
    if isinstance(module, PackableAct):
        return module.packed_act()
    for name, act in ACTS.items():
        values = act.read(module)
        if values is not None:
            return name, values
    allowed = ", ".join(act.words for act in ACTS.values() if act.words)
    raise LMBError(f"act: {type(module).__name__} has no packed form. Allowed: {allowed}.")


def is_given(name: str, flags: Any, act: str) -> bool:
    """Whether a layer has a tensor: of its configuration's ``flags``, an attribute a flag, and its act."""
    given = TENSORS[name].given
    return given == "always" or (name in ACTS[act].tensors if given == "act" else bool(getattr(flags, name)))
