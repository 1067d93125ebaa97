# SPDX-License-Identifier: Apache-2.0
"""What runs here: versions of the hosts, applied fixes, CPU, GPU, and what to do for each problem."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmb_quant.errors import LMBError
from lmb_quant.machine import cpu_flags, cpu_name, package_versions
from lmb_quant.ops import active_kernel
from lmb_quant.table import render

_PACKAGES = ("lmb-quant", "torch", "torchvision", "numpy", "basicsr", "opencv-python-headless", "torchao", "timm")
_INSTALL = {
    "basicsr": "pip install 'lmb-quant[basicsr]' && pip install --no-deps --no-build-isolation basicsr==1.4.2",
    "torchao": "pip install 'lmb-quant[torchao]'",
    "timm": "pip install 'lmb-quant[timm]'",
}


@dataclass(frozen=True)
class Report:
    """The findings; ``problems`` are lines that say what is wrong and what to do. ``print`` shows all."""

    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            render(
                "lmb-quant doctor", ("what", "found"), [*self.facts, ("problems", str(len(self.problems)))], total=True
            )
        ]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def examine() -> Report:
    """Looks at the machine and imports each integration once."""
    facts = list(package_versions(_PACKAGES).items())
    problems = []
    for host, command in _INSTALL.items():
        try:
            integration = importlib.import_module(f"lmb_quant.integrations.{host}")
        except ImportError as error:
            facts.append((f"{host} integration", "not usable"))
            problems.append(f"{host}: {str(error).splitlines()[0]} To use it: {command}")
        else:
            applied: Sequence[str] = getattr(integration, "applied_fixes", tuple)()
            facts += [(f"{host} integration", "usable"), *(("  fix applied", fix) for fix in applied)]
    facts += [
        ("CPU", f"{cpu_name()}, {torch.get_num_threads()} threads"),
        ("CPU features", ", ".join(cpu_flags()) or "none that is looked for"),
        ("PyTorch's CPU kernels", torch.backends.cpu.get_cpu_capability()),
        ("packed layers run by", _kernel(problems)),
        ("GPU", ", ".join(_gpus()) or "none"),
    ]
    return Report(tuple(facts), tuple(problems))


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


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
