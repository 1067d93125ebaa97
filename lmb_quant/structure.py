# SPDX-License-Identifier: Apache-2.0
"""What part a convolution plays in a network, found by running the network once on a small image.

The run records which tensor was made from which. Nothing is learned from names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

_UPSAMPLING = ("pixel_shuffle", "interpolate", "upsample", "fold", "grid_sample")
_ADDITION = ("add", "__add__", "__radd__", "__iadd__", "add_")
_SIDES = (24, 64, 32, 224)


@dataclass(frozen=True)
class Structure:
    """The parts that convolutions play, by the name under which ``named_modules`` first lists them.

    ``bypassed``: the network itself adds, to the convolution's output, something that the convolution's input was made
    from (a block's residual connection). ``how`` says in words how this was found.
    """

    first: frozenset[str]
    last: frozenset[str]
    upsample: frozenset[str]
    bypassed: frozenset[str]
    how: str

    def has(self, token: str, name: str, conv: nn.Conv2d) -> bool:
        """Whether the structural token (``@first``, ``@pointwise``, ...) applies to a convolution."""
        if token in ("@first", "@last", "@upsample"):
            return name in getattr(self, token[1:])
        kernel, stride = conv.kernel_size, conv.stride
        return {
            "@pointwise": all(size == 1 for size in kernel),
            "@grouped": conv.groups > 1,
            "@strided": any(step > 1 for step in stride),
        }[token]


@dataclass(eq=False)
class _Node:
    """One tensor of the recorded run."""

    op: str
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
        node = _Node(op, parents)
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
            op = (resolve_name(func) or getattr(func, "__name__", "")).rsplit(".", 1)[-1]
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self.note(leaf, op, parents)
        return result


def find_structure(model: nn.Module, input_size: tuple[int, ...] | None = None) -> Structure:
    """Finds the parts that a model's convolutions play.

    Args:
        model: Any module; it is copied, the copy runs once in eval mode on a random image, the model is untouched.
        input_size: Size of the input, ``(N, C, H, W)`` or what the model takes; a small square image by default.

    Returns:
        The structure. Where the model cannot be run on any tried input, the first and the last ``Conv2d`` in
        registration order count as ``first`` and ``last``, and ``how`` says so.
    """
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if not convs:
        return Structure(frozenset(), frozenset(), frozenset(), frozenset(), "no convolution")
    channels = next(iter(convs.values())).in_channels
    sizes = [input_size] if input_size else [(1, channels, side, side) for side in _SIDES]
    problem = ""
    for size in sizes:
        try:
            return _probe(model, size)
        except Exception as error:  # noqa: BLE001 - any model, any failure: the next size may fit
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
    names = list(convs)
    how = f"by registration order, since a trial run failed ({problem}); input_size=... may help"
    return Structure(frozenset(names[:1]), frozenset(names[-1:]), frozenset(), frozenset(), how)


def _probe(model: nn.Module, size: tuple[int, ...]) -> Structure:
    probe = copy.deepcopy(model).eval()
    names: dict[str, list[tuple[_Node | None, _Node]]] = {}
    recorder = _Recorder()
    for name, module in probe.named_modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        if isinstance(module, nn.Conv2d):
            names[name] = []
            module.register_forward_hook(_conv_hook(recorder, names[name]))
    reference = next(module.weight for module in probe.modules() if isinstance(module, nn.Conv2d))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        image = torch.rand(size).to(reference.device, reference.dtype)
        with recorder:
            source = recorder.note(image, "image", [])
            result = probe(image)
    results = [node for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and (node := recorder.node_of(leaf))]
    unused = [name for name, uses in names.items() if not uses]
    how = f"by a trial run on an input of size {tuple(size)}"
    if unused:
        how += f"; not run: {', '.join(unused)}"
    return Structure(
        first=_where(names, lambda before, out: _comes_from(before, source)),
        last=_where(names, lambda before, out: _reaches(out, results)),
        upsample=_where(names, lambda before, out: _feeds_upsampling(out)),
        bypassed=_where(names, _is_bypassed),
        how=how,
    )


def _conv_hook(recorder: _Recorder, uses: list[tuple[_Node | None, _Node]]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        before = recorder.node_of(args[0])
        uses.append((before, recorder.note(output, "conv", [before] if before else [])))

    return hook


def _where(
    names: dict[str, list[tuple[_Node | None, _Node]]], test: Callable[[_Node | None, _Node], bool]
) -> frozenset[str]:
    return frozenset(name for name, uses in names.items() if any(test(before, out) for before, out in uses))


def _not_conv(node: _Node) -> bool:
    return node.op != "conv"


def _comes_from(before: _Node | None, source: _Node) -> bool:
    if before is None:
        return True
    return before is source or (_not_conv(before) and source in before.reach(lambda node: node.parents, _not_conv))


def _reaches(out: _Node, results: list[_Node]) -> bool:
    return out in results or any(node in results for node in out.reach(lambda node: node.children, _not_conv))


def _feeds_upsampling(out: _Node) -> bool:
    """Follows the output as long as nothing is added to it."""
    steps = out.reach(lambda node: node.children, lambda node: len(node.parents) == 1 and _not_conv(node))
    return any(any(word in node.op for word in _UPSAMPLING) for node in steps)


def _is_bypassed(before: _Node | None, out: _Node) -> bool:
    """Whether out, changed by no other convolution, is added to something that before was made from."""
    if before is None:
        return False
    ancestors = {before, *before.reach(lambda node: node.parents, lambda node: True)}
    mine = {out, *out.reach(lambda node: node.children, _not_conv)}
    for node in mine:
        if node.op in _ADDITION and any(parent in ancestors for parent in node.parents):
            return True
    return False
