# SPDX-License-Identifier: Apache-2.0
"""What part a convolution plays in a network, found by running the network once on a small image.

The run records which tensor was made from which. Nothing is learned from names.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from lmb_quant.errors import LMBError, RecipeError, named_reason
from lmb_quant.modules import BinaryConv2d

_UPSAMPLING = {
    "pixel_shuffle",
    "interpolate",
    "upsample",
    "upsample_nearest",
    "upsample_bilinear",
    "fold",
    "grid_sample",
}
_ADDITION = {"add", "iadd", "radd", "sub", "isub", "rsub", "subtract"}
_OTHER_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_SIDES = (24, 64, 128, 224)
_CHANNELS = (3, 1, 4)
_FRAMES = (5, 7)


@dataclass(frozen=True)
class Structure:
    """The parts that convolutions play, by the name under which ``named_modules`` first lists them.

    ``bypassed``: the network itself adds, to the convolution's output, something that the convolution's input was made
    from (a block's residual connection). ``idle``: it did not run, as in a branch for training only. ``written``: the
    network's own forward writes its weight, as re-parameterised blocks do. ``how`` says in words how this was found,
    ``found`` whether a trial run succeeded.

    A linear layer or a transposed convolution reads and writes as a convolution does. Subclasses of ``Conv2d`` (a mean
    shift, say) play no part; what they do is looked through.
    """

    first: frozenset[str]
    last: frozenset[str]
    upsample: frozenset[str]
    bypassed: frozenset[str]
    how: str
    idle: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    found: bool = True

    def has(self, token: str, name: str, module: nn.Module) -> bool:
        """Whether the structural token (``@first``, ``@pointwise``, ...) applies to a module."""
        if token in ("@first", "@last", "@upsample"):
            return name in getattr(self, token[1:])
        return (
            isinstance(module, nn.Conv2d)
            and {
                "@pointwise": all(size == 1 for size in module.kernel_size),
                "@grouped": module.groups > 1,
                "@strided": any(step > 1 for step in module.stride),
            }[token]
        )


def copy_model(model: nn.Module, instead: Mapping[Any, Any] | None = None) -> nn.Module:
    """Copies a model, with computed tensors (pruning and weight_norm keep them), which torch itself cannot copy.

    Args:
        model: Any module.
        instead: Modules and tensors of it, and what takes their place in the copy.
    """
    attributes = (value for module in model.modules() for value in vars(module).values())
    computed = [value for value in attributes if isinstance(value, Tensor) and not value.is_leaf]
    memo = {id(tensor): tensor.detach().clone() for tensor in computed}
    return copy.deepcopy(model, memo | {id(old): new for old, new in (instead or {}).items()})


def copy_without_hooks(model: nn.Module) -> nn.Module:
    """:func:`copy_model`, but nothing of others sees or changes what runs in the copy."""
    copied = copy_model(model)
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copied


def inside_binary(model: nn.Module) -> set[nn.Module]:
    """The modules inside binary convolutions: parts of their unit, which play no part of their own in the network."""
    return {
        inner
        for module in model.modules()
        if isinstance(module, BinaryConv2d)
        for child in module.children()
        for inner in child.modules()
    }


@dataclass(eq=False)
class _Node:
    """One tensor of the recorded run; ``number`` counts them in the order in which they were made."""

    op: str
    number: int
    parents: list[_Node]
    children: list[_Node] = field(default_factory=list)

    def reach(self, step: Callable[[_Node], list[_Node]], through: Callable[[_Node], bool]) -> Iterator[_Node]:
        """Walks along ``step``; a node where ``through`` is false is still yielded but not walked past."""
        seen, queue = {id(self)}, [self]
        while queue:
            for node in step(queue.pop()):
                if id(node) not in seen:
                    seen.add(id(node))
                    yield node
                    if through(node):
                        queue.append(node)


class _Recorder(TorchFunctionMode):
    """Records the parents of every tensor made while active. Keeps the tensors alive, so that ids stay unique."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[int, _Node] = {}
        self.kept: list[Tensor] = []

    def node_of(self, tensor: Tensor) -> _Node | None:
        return self.nodes.get(id(tensor))

    def note(self, tensor: Tensor, op: str, parents: list[_Node]) -> _Node:
        node = _Node(op, len(self.kept), parents)
        for parent in parents:
            parent.children.append(node)
        self.nodes[id(tensor)] = node
        self.kept.append(tensor)
        return node

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        parents = [node for tensor in inputs if (node := self.node_of(tensor)) is not None]
        result = func(*args, **(kwargs or {}))
        if parents:
            op = (resolve_name(func) or getattr(func, "__name__", "")).rsplit(".", 1)[-1].strip("_")
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self.note(leaf, op, parents)
        return result


def check_input_size(input_size: object, error: type[LMBError] = LMBError) -> None:
    """Refuses what is no size of an input.

    Raises:
        LMBError: If it is anything but whole numbers from 1; ``error`` is raised.
    """
    sides = list(input_size) if isinstance(input_size, Sequence) and not isinstance(input_size, str) else []
    if not sides or not all(isinstance(side, int) and side > 0 for side in sides):
        raise error(f"input_size: {input_size!r} is not allowed. Allowed: the input's size, such as (1, 3, 180, 320).")


def find_structure(model: nn.Module, input_size: tuple[int, ...] | None = None) -> Structure:
    """Finds the parts that a model's convolutions play.

    Args:
        model: Any module; it is copied, the copy runs once in eval mode on a random image, the model is untouched.
        input_size: Size of the input, ``(N, C, H, W)`` or what the model takes; a small square image by default.

    Returns:
        The structure. Where the model cannot be run on any tried input, the first and the last ``Conv2d`` in
        registration order count as ``first`` and ``last``, and ``how`` says so; ``found`` is then false.

    Raises:
        RecipeError: If ``input_size`` is given and is no size, or the model does not run on it.
    """
    if input_size is not None:
        check_input_size(input_size, RecipeError)
    inner = inside_binary(model)
    convs = [module for module in model.modules() if _is_conv(module) and module not in inner]
    if not convs:
        return Structure(frozenset(), frozenset(), frozenset(), frozenset(), "no convolution")
    problem = ""
    with _untouched_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own, about an image it was not made for
        probe = None
        for size in [input_size] if input_size else _sizes(convs):
            try:
                probe = probe or _Probe(model)
                return probe.run(tuple(size))
            except Exception as error:
                problem = problem or named_reason(error)
            if probe is None:  # the model cannot be copied
                break
    if input_size:
        raise RecipeError(f"input_size: the model does not run on an input of size {tuple(input_size)!r}: {problem}")
    names = [name for name, module in model.named_modules() if module in convs]
    how = f"by registration order, since a trial run failed ({problem}); input_size=... may help"
    return Structure(frozenset(names[:1]), frozenset(names[-1:]), frozenset(), frozenset(), how, found=False)


def _is_conv(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return type(module) is nn.Conv2d or isinstance(module, BinaryConv2d)


def _sizes(convs: list[nn.Conv2d]) -> Iterator[tuple[int, ...]]:
    """Image sizes to try: channels of the first convolution, usual ones, those of any other convolution; then video."""
    all_channels = dict.fromkeys((convs[0].in_channels, *_CHANNELS, *(conv.in_channels for conv in convs)))
    for channels in all_channels:
        yield from ((1, channels, side, side) for side in _SIDES)
    for frames in _FRAMES:
        yield from ((1, frames, channels, 64, 64) for channels in _CHANNELS)


@contextmanager
def _untouched_rng() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@dataclass
class _Use:
    """One call of a convolution; ``before`` is None where the recorder lost track of its input."""

    name: str
    before: _Node | None
    out: _Node


class _Probe:
    """A copy of the model, without hooks of others, that records its runs."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy_without_hooks(model)
        self.model.eval()
        self.convs: dict[str, nn.Conv2d] = {}
        self.recorder = _Recorder()
        self.uses: list[_Use] = []
        inner = inside_binary(self.model)
        for name, module in self.model.named_modules():
            if module in inner:
                continue
            if _is_conv(module):
                self.convs[name] = module
            if _is_conv(module) or isinstance(module, _OTHER_LAYERS):
                module.register_forward_hook(self._hook(name), with_kwargs=True)

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            before = self.recorder.node_of(
                next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            )
            out = self.recorder.note(output, "conv", [before] if before else [])
            if _is_conv(module):
                self.uses.append(_Use(name, before, out))

        return hook

    def run(self, size: tuple[int, ...]) -> Structure:
        self.recorder, self.uses = _Recorder(), []
        like = next(p for p in self.model.parameters() if p.is_floating_point())
        with torch.no_grad():
            for conv in self.convs.values():
                _mark(conv)
            marks = {name: _Mark(conv) for name, conv in self.convs.items()}
            image = torch.rand(size, dtype=like.dtype, device=like.device)
            source = self.recorder.note(image, "image", [])
            with self.recorder:
                result = self.model(image)
        leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        results = {node for leaf in leaves if (node := self.recorder.node_of(leaf))}
        if not results:
            raise TypeError(f"the result is no tensor, nor a list, tuple or dict of tensors: {type(result).__name__}")
        untracked_first = self.uses[:1] if self.uses and self.uses[0].before is None else []
        return Structure(
            first=_names(use for use in self.uses if use in untracked_first or _comes_from(use.before, source)),
            last=_names(use for use in self.uses if _reaches(use.out, results)),
            upsample=_names(use for use in self.uses if _feeds_upsampling(use.out)),
            bypassed=_names(use for use in self.uses if _is_bypassed(use)),
            how=f"by a trial run on an input of size {size}",
            idle=frozenset(self.convs) - {use.name for use in self.uses},
            written=frozenset(name for name, mark in marks.items() if mark.is_gone()),
        )


def _plain_weight(conv: nn.Conv2d) -> Tensor | None:
    """The weight, where it is a parameter with values of its own: not computed, quantised or on the meta device."""
    weight = conv._parameters.get("weight")
    plain = type(weight) is nn.Parameter and weight.is_floating_point() and not weight.is_meta
    return weight if plain else None


def _mark(conv: nn.Conv2d) -> None:
    """Changes the weight a little, so that a run which writes it is seen even where it writes what was there."""
    weight = _plain_weight(conv)
    if weight is not None:
        weight.add_(torch.rand_like(weight), alpha=1e-3)


class _Mark:
    """A convolution's weight as it is before a run."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv, self.weight = conv, conv._parameters.get("weight")
        plain = _plain_weight(conv)
        self.before = None if plain is None else (plain.data_ptr(), _version(plain), plain.clone())

    def is_gone(self) -> bool:
        """Whether the run put another tensor or other values in its place."""
        if self.conv._parameters.get("weight") is not self.weight:
            return True
        if self.weight is None or self.before is None:
            return False
        place, version, values = self.before
        now = self.weight.data_ptr(), _version(self.weight)
        return now != (place, version) or not torch.equal(self.weight, values)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; one made in inference mode does not count."""
    return 0 if tensor.is_inference() else tensor._version


def _names(uses: Iterable[_Use]) -> frozenset[str]:
    return frozenset(use.name for use in uses)


def _not_conv(node: _Node) -> bool:
    return node.op != "conv"


def _comes_from(before: _Node | None, source: _Node) -> bool:
    if before is None or not _not_conv(before):
        return False
    return before is source or source in before.reach(lambda node: node.parents, _not_conv)


def _reaches(out: _Node, results: set[_Node]) -> bool:
    return out in results or any(
        node in results and _not_conv(node) for node in out.reach(lambda node: node.children, _not_conv)
    )


def _feeds_upsampling(out: _Node) -> bool:
    """Follows the output as long as nothing is added to it."""
    steps = out.reach(lambda node: node.children, lambda node: len(node.parents) == 1 and _not_conv(node))
    return any(node.op in _UPSAMPLING for node in steps)


def _is_bypassed(use: _Use) -> bool:
    """Whether the output, changed by no other convolution, is added to something that the input was made from."""
    if use.before is None:
        return False
    reached = {use.out, *use.out.reach(lambda node: node.children, _not_conv)}
    added = {parent for node in reached if node.op in _ADDITION for parent in node.parents} - reached
    if not added:
        return False
    oldest = min(node.number for node in added)  # nothing before it need be walked: parents have smaller numbers
    ancestors = use.before.reach(lambda node: node.parents, lambda node: node.number > oldest)
    return use.before in added or any(node in added for node in ancestors)
