# SPDX-License-Identifier: Apache-2.0
"""Times forms of networks in one headless Chromium, in turn, once their outputs have been compared."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lmb_quant.bench.measure import require, sqnr
from lmb_quant.bench.report import to_json
from lmb_quant.errors import LMBError
from lmb_quant.integrations.web import site_files
from lmb_quant.machine import Machine
from lmb_quant.table import render

from .browser import chromium_version, find_chromium, reports_of
from .forms import PACKED, Form, check_packages, make_forms, make_pixels

NETWORKS = ("lmb_small_x4", "lmb_base_x4", "lmb_large_x4")
RUNTIME = Path("node_modules/onnxruntime-web")
"""Where npm puts onnxruntime-web."""

_RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SILENCE = 300.0  # seconds


@dataclass(frozen=True)
class WebTime:
    """Seconds of one network in one form; ``bytes`` is the size of its file, ``sqnr`` in dB."""

    network: str
    form: str
    bytes: int
    sqnr: float
    median: float
    minimum: float


@dataclass(frozen=True)
class WebReport:
    """The figures. ``size`` is the LR image's, pixels; ``threads`` those of ONNX Runtime, the engine has one."""

    size: tuple[int, int]
    rounds: int
    threads: int
    browser: str
    runtime: str
    machine: Machine
    times: tuple[WebTime, ...]

    def __str__(self) -> str:
        height, width = self.size
        title = (
            f"x4 on {height} x {width} pixels in {self.browser}; packed: this engine, one thread; float and int8: "
            f"{self.runtime}, wasm, threads: {self.threads}; wall time; {self.rounds} interleaved rounds\n"
            f"{self.machine}"
        )
        packed = [time for time in self.times if time.form == PACKED]
        columns = (
            "network",
            "form",
            "kB",
            "SQNR dB",
            "median ms",
            "least ms",
            *(f"/ {time.network}" for time in packed),
        )
        rows = [
            (
                time.network,
                time.form,
                f"{time.bytes / 1e3:.0f}",
                f"{time.sqnr:.1f}",
                f"{time.median * 1e3:.1f}",
                f"{time.minimum * 1e3:.1f}",
                *(f"{time.median / own.median:.2f}" for own in packed),
            )
            for time in self.times
        ]
        return render(title, columns, rows, right=range(2, len(columns)))

    def to_json(self) -> str:
        """The figures as JSON; seconds."""
        return to_json(self)


def measure_web(
    networks: Sequence[str] = NETWORKS,
    *,
    runtime: Path = RUNTIME,
    chromium: Path | None = None,
    size: tuple[int, int] = (180, 320),
    rounds: int = 9,
    threads: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> WebReport:
    """Times packed networks by the engine for browsers beside others by onnxruntime-web, in one headless Chromium.

    The others are the same architectures in float, and ECBSR M4C16 in float and static int8. The engine is timed from a
    picture's RGBA bytes to the result's, as pages call it; ONNX Runtime from a float tensor to a float tensor.

    Args:
        networks: Names of the zoo, of SR factor 4.
        runtime: npm's folder of onnxruntime-web.
        chromium: The browser's program; None looks for it.
        size: Height and width of the LR image, pixels.
        rounds: Timed runs of each form, after one that is not timed.
        threads: Of ONNX Runtime.
        tell: Gets a word on what is done now.

    Raises:
        LMBError: If something that is needed is missing, the browser fails, or an output is wrong.
    """
    program = find_chromium(chromium)
    served, version = _runtime_files(runtime)
    check_packages()
    pixels = make_pixels(size)
    forms = make_forms(networks, pixels, tell)
    plan = {
        "height": size[0],
        "width": size[1],
        "rounds": rounds,
        "threads": threads,
        "forms": [{"packed": form.form == PACKED, "file": f"form-{i}"} for i, form in enumerate(forms)],
    }
    served |= {name: data for name, data in site_files().items() if name.startswith("lmb-quant/")}
    served |= {path.name: path.read_bytes() for path in (files(__package__) / "page").iterdir() if path.is_file()}
    served |= {f"form-{i}": form.file for i, form in enumerate(forms)}
    served |= {"plan.json": json.dumps(plan).encode(), "picture": _rgba(pixels).tobytes()}
    tell(f"{len(forms)} forms are compared and timed in turn, in {program.name}")
    found = dict(reports_of(program, served, "times", _SILENCE))
    ratios = [_compared(form, found[f"output-{i}"]) for i, form in enumerate(forms)]
    return WebReport(
        size=size,
        rounds=rounds,
        threads=threads,
        browser=chromium_version(program),
        runtime=f"onnxruntime-web {version}",
        machine=Machine(),
        times=tuple(
            WebTime(form.network, form.form, len(form.file), ratio, statistics.median(seconds), min(seconds))
            for form, ratio, seconds in zip(forms, ratios, json.loads(found["times"]), strict=True)
        ),
    )


def _runtime_files(folder: Path) -> tuple[dict[str, bytes], str]:
    """What the page loads of onnxruntime-web, and its version."""
    try:
        loaded = {f"onnxruntime-web/{name}": (folder / "dist" / name).read_bytes() for name in _RUNTIME_FILES}
        return loaded, json.loads((folder / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError) as error:
        raise LMBError(
            f"--onnxruntime-web: {str(folder)!r} is not npm's folder of onnxruntime-web ({error}). To get it: "
            "npm install onnxruntime-web."
        ) from error


def _rgba(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)])


def _compared(form: Form, output: bytes) -> float:
    """The SQNR of an output, dB.

    Raises:
        LMBError: If it is too low.
    """
    expected = form.expected
    if form.form == PACKED:
        rgba = np.frombuffer(output, np.uint8).reshape(*expected.shape[:2], 4)
        found = np.divide(rgba[..., :3], 255, dtype=np.float32)
    else:
        found = np.frombuffer(output, np.float32).reshape(3, *expected.shape[:2]).transpose(1, 2, 0)
    ratio = sqnr(torch.from_numpy(expected.copy()), torch.from_numpy(found.copy()))
    require(f"{form.network}, {form.form}", ratio, form.least)
    return ratio
