# SPDX-License-Identifier: Apache-2.0
"""summary(): parameters, bits, bytes, multiply-accumulates and operations of a network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError, named_reason
from lmb_quant.modules import BinaryConv2d, PackedBinaryConv2d
from lmb_quant.structure import check_input_size, copy_without_hooks
from lmb_quant.table import render
from lmb_quant.wrappers import unwrapped

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, nn.Linear)


@dataclass(frozen=True)
class LayerReport:
    """Figures of one layer.

    ``bits`` is 1, 32, or what a tensor of torchao stores for each value; ``weights`` counts the weight tensor alone,
    ``bytes`` the stored form of the whole layer (packed where binary, torchao's tensors as they are, else float32).
    MACs, additions (of local means and the like) and ``ops`` = float MACs + binary MACs / 64 are for one run on the
    summary's input; weight-only int8 computes in float. ``kernel`` is what runs a packed layer, e.g. ``avx2-lut``; else
    empty. Where several binary tensors stand for a real one, ``bits`` is their number, and binary MACs are those of
    ``bases`` convolutions. Of the float MACs ``unit_macs`` belong to what surrounds a binary convolution, whose own
    convolutions and linear layers have ``unit_weights``. ``trains_by`` is what runs a binary layer in training, see
    :attr:`lmb_quant.modules.BinaryConv2d.trains_by`.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    output_size: tuple[int, ...]
    bits: int
    weights: int
    bytes: int
    float_bytes: int
    float_macs: int
    binary_macs: int
    additions: int
    kernel: str = ""
    bases: int = 1
    unit_macs: int = 0
    unit_weights: int = 0
    trains_by: str = ""

    @property
    def ops(self) -> float:
        """Float MACs + binary MACs / 64."""
        return self.float_macs + self.binary_macs / 64


@dataclass(frozen=True)
class Summary:
    """Figures of a network; ``print`` shows them as a table.

    Counting rule (Bi-Real Net, ReActNet, BBCU): ``ops = float MACs + binary MACs / 64``,
    ``params = float weights + binary weights / 32``; weights of convolutions and linear layers only. Additions of local
    means, and of whatever else a method computes of its real-valued activations, are listed beside them.
    """

    input_size: tuple[int, ...]
    layers: tuple[LayerReport, ...] = field(repr=False)

    @property
    def ops(self) -> float:
        """Operations of one run."""
        return sum(layer.ops for layer in self.layers)

    @property
    def float_ops(self) -> int:
        """Operations of the same network in float: all its MACs."""
        return sum(layer.float_macs - layer.unit_macs + layer.binary_macs // layer.bases for layer in self.layers)

    @property
    def additions(self) -> int:
        """Additions of local means and the like, of one run."""
        return sum(layer.additions for layer in self.layers)

    @property
    def params(self) -> float:
        """Float weights + binary weights / 32."""
        return sum(layer.weights * layer.bits / 32 + layer.unit_weights for layer in self.layers)

    @property
    def float_params(self) -> int:
        """Weights of the same network in float."""
        return sum(layer.weights for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes of the stored network: binary layers packed, all else in float32."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def float_bytes(self) -> int:
        """Bytes of the same network in float32: for binary layers, weight and bias alone."""
        return sum(layer.float_bytes for layer in self.layers)

    def __str__(self) -> str:
        columns: tuple[str, ...] = (
            "layer", "class", "weight", "output", "bits", "bytes", "float MACs", "binary MACs", "OPs", "additions"
        )  # fmt: skip
        rows: list[tuple[str, ...]] = [
            (
                layer.name or "(the model itself)", layer.kind, "x".join(map(str, layer.shape)),
                "x".join(map(str, layer.output_size)), str(layer.bits), f"{layer.bytes:,}", f"{layer.float_macs:,}",
                f"{layer.binary_macs:,}", f"{layer.ops:,.0f}", f"{layer.additions:,}",
            )
            for layer in self.layers
        ]  # fmt: skip
        totals = [sum(getattr(layer, key) for layer in self.layers) for key in ("float_macs", "binary_macs")]
        rows.append(
            ("total", "", "", "", "", f"{self.bytes:,}", *(f"{n:,}" for n in totals), f"{self.ops:,.0f}",
             f"{self.additions:,}")
        )  # fmt: skip
        if any(layer.trains_by for layer in self.layers):
            columns = (*columns, "trains by")
            rows = [(*row, by) for row, by in zip(rows, [*(la.trains_by for la in self.layers), ""], strict=True)]
        if any(layer.kernel for layer in self.layers):
            columns = (*columns, "kernel")
            rows = [(*row, kernel) for row, kernel in zip(rows, [*(la.kernel for la in self.layers), ""], strict=True)]
        title = f"input {'x'.join(map(str, self.input_size))}; OPs = float MACs + binary MACs / 64"
        ratios = (
            f"against float32: OPs {_ratio(self.float_ops, self.ops)} fewer ({self.ops / 1e9:.3f} of "
            f"{self.float_ops / 1e9:.3f} G), bytes {_ratio(self.float_bytes, self.bytes)} fewer ({self.bytes:,} of "
            f"{self.float_bytes:,}), parameters {self.params / 1e3:.1f} K of {self.float_params / 1e3:.1f} K"
        )
        return f"{render(title, columns, rows, right=range(4, 10), total=True)}\n{ratios}"


def _ratio(whole: float, part: float) -> str:
    return f"{whole / part:.2f}x" if part else "-"


def summary(model: nn.Module, input_size: tuple[int, ...] = (1, 3, 180, 320)) -> Summary:
    """Counts the parameters, bytes and operations of a network, float or binary.

    Args:
        model: Any module; a copy of it runs once, without computing values where the model allows it. A wrapper around
            it (DataParallel, AveragedModel, torch.compile) is left out.
        input_size: Size of the input, ``(N, C, H, W)``; the default is the LR image behind a 1280 x 720 one at x4.

    Returns:
        The figures; a layer that runs several times is counted as often, one that does not run has none.

    Raises:
        LMBError: If ``input_size`` is no size, or the model does not run on an input of it.
        TypeError: If ``model`` is not a module.
    """
    model = unwrapped(model)
    check_input_size(input_size)
    runs = _trace(model, tuple(input_size))
    binary = tuple(
        f"{name}.{child}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, BinaryConv2d)
        for child, _ in module.named_children()
    )
    layers = (
        _report(name, module, runs)
        for name, module in model.named_modules()
        if (isinstance(module, PackedBinaryConv2d) or any(True for _ in module.parameters(recurse=False)))
        and not name.startswith(binary)
    )
    return Summary(tuple(input_size), tuple(layers))


_Run = tuple[tuple[int, ...], tuple[int, ...]]
"""Sizes of the input and the output of one run of a layer."""


def _report(name: str, module: nn.Module, all_runs: dict[str, list[_Run]]) -> LayerReport:
    runs = all_runs.get(name, [])
    if isinstance(module, PackedBinaryConv2d):
        return _report_packed(name, module, runs)
    if isinstance(module, BinaryConv2d):
        return _report_binary(name, module, all_runs)
    own = list(module.parameters(recurse=False))
    weight = module.weight if isinstance(module, _COUNTED) else None
    macs = sum(_macs(module, run) for run in runs)
    return LayerReport(
        name=name,
        kind=type(module).__name__,
        shape=() if weight is None else tuple(weight.shape),
        output_size=runs[0][1] if runs else (),
        bits=32 if weight is None else _bits(weight),
        weights=0 if weight is None else weight.numel(),
        bytes=sum(map(_stored_bytes, own)),
        float_bytes=sum(4 * p.numel() for p in own),
        float_macs=macs,
        binary_macs=0,
        additions=0,
    )


def _report_binary(name: str, module: BinaryConv2d, all_runs: dict[str, list[_Run]]) -> LayerReport:
    runs = all_runs.get(name, [])
    inner = [
        (part, all_runs.get(f"{name}.{path}".lstrip("."), []))
        for path, part in module.named_modules()
        if path and isinstance(part, _COUNTED)
    ]
    inner_macs = sum(_macs(part, run) for part, own in inner for run in own)
    unit_macs = inner_macs + sum(module.unit_macs(*run) for run in runs)
    bases = module.binarize_weight.bases * module.binarize_input.bases
    return LayerReport(
        name=name,
        kind=type(module).__name__,
        shape=tuple(module.weight.shape),
        output_size=runs[0][1] if runs else (),
        bits=module.binarize_weight.bases,
        weights=module.weight.numel(),
        bytes=module.packed_bytes,
        float_bytes=sum(4 * p.numel() for p in module.parameters(recurse=False)),
        float_macs=unit_macs,
        binary_macs=bases * sum(_macs(module, run) for run in runs),
        additions=sum(module.unit_additions(*run) for run in runs),
        bases=bases,
        unit_macs=unit_macs,
        unit_weights=sum(part.weight.numel() for part, _ in inner),
        trains_by=module.trains_by,
    )


def _report_packed(name: str, module: PackedBinaryConv2d, runs: list[_Run]) -> LayerReport:
    c = module.config
    shape = (c.out_channels, c.in_channels // c.groups, *c.kernel_size)
    unit_macs = sum(c.unit_macs(*run) for run in runs)
    return LayerReport(
        name=name,
        kind=type(module).__name__,
        shape=shape,
        output_size=runs[0][1] if runs else (),
        bits=1,
        weights=math.prod(shape),
        bytes=module.packed_bytes,
        float_bytes=4 * (math.prod(shape) + c.out_channels * c.bias),
        float_macs=unit_macs,
        binary_macs=sum(math.prod(after) * math.prod(shape[1:]) for _, after in runs),
        additions=sum(math.prod(before) * c.additions_per_value for before, _ in runs),
        unit_macs=unit_macs,
        unit_weights=c.in_channels * c.pixel_factor,
        kernel=module.kernel,
    )


def _macs(module: nn.Module, run: _Run) -> int:
    before, after = run
    if isinstance(module, _TRANSPOSED):
        return math.prod(before) * math.prod(module.weight.shape[1:])
    if isinstance(module, _COUNTED):
        return math.prod(after) * math.prod(module.weight.shape[1:])
    return 0


def _parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors in which a tensor subclass, as torchao's are, holds its values; none for a plain tensor."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return []
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]


def _stored_bytes(tensor: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in _parts(tensor)) or 4 * tensor.numel()


def _bits(weight: Tensor) -> int:
    """Bits for each value, without the scales that several values share."""
    values = max(_parts(weight), key=torch.numel, default=None)
    return 32 if values is None else round(8 * values.numel() * values.element_size() / weight.numel())


def _trace(model: nn.Module, input_size: tuple[int, ...]) -> dict[str, list[_Run]]:
    """Runs a copy of the model and notes each layer's sizes; on the meta device, or for real where that fails."""
    try:
        return _trace_on(copy_without_hooks(model).to("meta"), input_size)
    except Exception:
        pass
    try:
        return _trace_on(copy_without_hooks(model), input_size)
    except Exception as error:
        raise LMBError(
            f"input_size: the model does not run on an input of size {input_size!r}: {named_reason(error)}"
        ) from error


def _trace_on(model: nn.Module, input_size: tuple[int, ...]) -> dict[str, list[_Run]]:
    runs: dict[str, list[_Run]] = {}

    def hook_for(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                runs.setdefault(name, []).append((tuple(args[0].shape), tuple(output.shape)))

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(hook_for(name))
    like = next(model.parameters(), torch.zeros(()))
    model.eval()
    with torch.no_grad():
        model(torch.zeros(input_size, device=like.device, dtype=like.dtype))
    return runs
