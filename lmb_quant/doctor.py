# SPDX-License-Identifier: Apache-2.0
"""What runs here: versions of the hosts, applied fixes, CPU, GPU, and what to do for each problem."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmb_quant.errors import LMBError, named_reason, reason
from lmb_quant.integrations._missing import INSTALL
from lmb_quant.machine import cpu_flags, cpu_name
from lmb_quant.ops import active_kernel
from lmb_quant.table import render
from lmb_quant.versions import package_versions

_PACKAGES = (
    "lmb-quant", "torch", "torchvision", "numpy", "basicsr", "opencv-python-headless", "torchao", "timm", "onnx",
    "onnxscript", "av", "spandrel",
)  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """A part of the project that needs optional packages; ``modules`` are imported to see whether it works."""

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    install: str


_ONNX = ("onnx", "onnxscript")
_PARTS = (
    *(_Part(f"{host} integration", (host,), (f"lmb_quant.integrations.{host}",), INSTALL[host]) for host in INSTALL),
    _Part("ONNX export", _ONNX, _ONNX, "pip install 'lmb-quant[onnx]'"),
    _Part("videos", ("av",), ("lmb_quant.upscaling.video.run",), "pip install 'lmb-quant[video]'"),
)


@dataclass(frozen=True)
class Report:
    """The findings. ``print`` shows all.

    ``problems`` are lines that say what is installed and does not work, and what to do; ``notes`` what is optional and
    not installed.
    """

    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = [("problems", str(len(self.problems)))]
        table = render("lmb-quant doctor", ("what", "found"), [*self.facts, *counts], total=True)
        lines = [*(f"note: {note}" for note in self.notes), *(f"problem: {problem}" for problem in self.problems)]
        return "\n".join([table, *lines])


def examine() -> Report:
    """Looks at the machine and imports each optional part once."""
    facts = list(package_versions(_PACKAGES).items())
    problems: list[str] = []
    notes: list[str] = []
    for part in _PARTS:
        missing = [package for package in part.packages if not _is_installed(package)]
        if missing:
            facts.append((part.name, "not installed"))
            notes.append(f"{part.name}: {' and '.join(missing)} not installed. To use it: {part.install}")
            continue
        try:
            modules = [importlib.import_module(name) for name in part.modules]
        except Exception as error:  # a library that is broken raises anything
            facts.append((part.name, "not usable"))
            problems.append(f"{part.name}: {_reason(error)} To install it again: {part.install}")
        else:
            applied: Sequence[str] = getattr(modules[0], "applied_fixes", tuple)()
            facts += [(part.name, "usable"), *(("  fix applied", fix) for fix in applied)]
    facts += [
        ("CPU", f"{cpu_name()}, {torch.get_num_threads()} threads"),
        ("CPU features", ", ".join(cpu_flags()) or "none that is looked for"),
        ("PyTorch's CPU kernels", torch.backends.cpu.get_cpu_capability()),
        ("packed layers run by", _kernel(problems)),
        ("GPU", _gpus(problems)),
    ]
    return Report(tuple(facts), tuple(problems), tuple(notes))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # ValueError: it is imported already, in a way that leaves no specification
        return True


def _reason(error: Exception) -> str:
    """The first line, as a sentence; its class where it is not one that says by itself what is wrong."""
    first = reason(error) if isinstance(error, LMBError) else named_reason(error)
    return f"{first.rstrip('.')}."


def _kernel(problems: list[str]) -> str:
    """What runs packed layers; adds what is wrong with it to ``problems``."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kernel = active_kernel()
    except LMBError as error:
        problems.append(f"kernels: {error}")
        return "not usable"
    problems += [f"kernels: {warning.message}" for warning in caught if "packed layers" in str(warning.message)]
    return kernel


def _gpus(problems: list[str]) -> str:
    """The names of the GPUs; adds to ``problems`` that one does not answer."""
    try:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:  # the driver's
        problems.append(f"GPU: {_reason(error)} Check its driver, or hide it: CUDA_VISIBLE_DEVICES=''")
        return "not usable"
    return ", ".join(names) or "none"
