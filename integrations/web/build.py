# SPDX-License-Identifier: Apache-2.0
"""Compiles the engine to WebAssembly: ``./dev web``, in a checkout.

Zig brings the compiler, the C and the C++ library. Its version is pinned, so that equal sources give equal bytes. Its
C++ library for WebAssembly has no exceptions, so the files of it that throw and catch are compiled here. There are two
engines: one for all browsers with SIMD, and a faster one for those that have relaxed SIMD too.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from lmb_quant.errors import LMBError
from lmb_quant.files import write_atomically

_HERE = Path(__file__).resolve().parent
PACKAGE = _HERE / "package"
ENGINES = {"lmb_quant.wasm": (), "lmb_quant_relaxed.wasm": ("-mrelaxed-simd",)}
"""File -> what the kernels are compiled with; engine.js chooses."""

RECORD = _HERE / "lmb_quant.wasm.json"
"""What the engines were made of: the sources and the version of Zig."""

_OTHER_MACHINES = (
    "amx_conv.cpp",
    "isa_avx2.cpp",
    "isa_avx512.cpp",
    "isa_neon.cpp",
    "isa_portable.cpp",
    "thread_pool.cpp",
)
_EXPORTS = (
    *("malloc", "free", "lmbq_last_error", "lmbq_isa_name", "lmbq_isa_selected", "lmbq_network_open"),
    *("lmbq_network_close", "lmbq_network_query", "lmbq_network_run_bytes", "lmbq_network_run"),
)
_MACHINE = ("-target", "wasm32-wasi", "-msimd128")
_COMPILE = (
    *_MACHINE,
    *("-Xclang", "-target-feature", "-Xclang", "+exception-handling", "-fwasm-exceptions", "-mllvm", "-wasm-enable-eh"),
    *("-g0", "-DNDEBUG", "-fno-sanitize=undefined", "-ffunction-sections", "-fvisibility=hidden"),
)
_ENGINE = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-DLMBQ_WASM", "-DLMBQ_ONE_THREAD")
_FAST = "isa_wasm.cpp"  # nearly all of the time is spent here; the rest is made small
# LLVM's loop strength reduction takes the constants out of addresses, and WebAssembly has room for them there.
_FAST_FLAGS = ("-O2", "-mllvm", "-disable-lsr")
_RUNTIME = ("cxa_exception.cpp", "cxa_personality.cpp")
_RUNTIME_FLAGS = (
    *("-std=c++23", "-D_LIBCXXABI_BUILDING_LIBRARY", "-D_LIBCPP_BUILDING_LIBRARY", "-D_LIBCXXABI_HAS_NO_THREADS"),
)


def csrc() -> Path:
    """The engine's sources.

    Raises:
        LMBError: If they are not there: an installed package has none.
    """
    folder = _HERE.parents[1] / "lmb_quant" / "csrc"
    if not folder.is_dir():
        raise LMBError(f"{folder}: the engine's sources are not there. They are part of a checkout only.")
    return folder


def sources_digest() -> str:
    """SHA-256 over everything that the engine is made of: names and contents."""
    folder = csrc()
    paths = [path for path in folder.rglob("*") if path.suffix in (".cpp", ".hpp", ".inl", ".h")]
    named = {path.relative_to(folder).as_posix(): path for path in paths if path.name not in _OTHER_MACHINES}
    named |= {path.name: path for path in (_HERE / "exceptions.cpp", Path(__file__).resolve())}
    digest = hashlib.sha256()
    for name in sorted(named):
        digest.update(f"{name}\n{hashlib.sha256(named[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def build() -> None:
    """Compiles the engines, and records what they were made of.

    Raises:
        LMBError: If ziglang is not installed, or does not compile the sources.
    """
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise LMBError("ziglang is not installed, which compiles the engine for the web. Use ./dev web.")
    digest, source, library = sources_digest(), csrc() / "src", Path(spec.origin).parent / "lib"
    with TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs: list[tuple[Path, tuple[str, ...]]] = []
        # What throws and catches comes first: for what it does not know yet, the linker takes the library's own files.
        jobs.append((_HERE / "exceptions.cpp", (*_COMPILE, "-Os")))
        runtime = (*_COMPILE, *_RUNTIME_FLAGS, "-Os", f"-I{library}/libcxx/src", f"-I{library}/libunwind/include")
        jobs += [(library / "libcxxabi" / "src" / name, runtime) for name in _RUNTIME]
        unwind = ("-Os", "-fdeclspec", "-D_LIBUNWIND_HIDE_SYMBOLS", "-Wno-c23-extensions")
        folders = (f"-I{library}/libunwind/include", f"-I{library}/libunwind/src")
        jobs.append((library / "libunwind" / "src" / "Unwind-wasm.c", (*_COMPILE, *unwind, *folders)))
        engine = (*_COMPILE, *_ENGINE, f"-I{source.parent / 'include'}", f"-I{source}")
        jobs += [
            (path, (*engine, "-Os"))
            for path in sorted(source.rglob("*.cpp"))
            if path.name not in (*_OTHER_MACHINES, _FAST)
        ]
        common = len(jobs)
        jobs += [(source / _FAST, (*engine, *_FAST_FLAGS, *flags)) for flags in ENGINES.values()]
        objects = [Path(folder) / f"{number}.o" for number in range(len(jobs))]

        def compile_one(number: int) -> None:
            path, flags = jobs[number]
            _zig("c++" if path.suffix == ".cpp" else "cc", [*flags, "-c", str(path), "-o", str(objects[number])])

        list(pool.map(compile_one, range(len(jobs))))
        exports = [f"-Wl,--export={name}" for name in _EXPORTS]
        flags = [*_MACHINE, "-O2", "-g0", "-s", "-fwasm-exceptions", "-mexec-model=reactor", "-Wl,--gc-sections"]
        for name, kernels in zip(ENGINES, objects[common:], strict=True):
            linked = Path(folder) / name
            _zig("c++", [*flags, *exports, *map(str, objects[:common]), str(kernels), "-o", str(linked)])
            write_atomically(PACKAGE / name, linked.read_bytes())
    record = {
        "sources": digest,
        "engines": {name: hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest() for name in ENGINES},
        "ziglang": version("ziglang"),
    }
    write_atomically(RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _zig(tool: str, arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", tool, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LMBError(f"zig {tool} failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    build()
