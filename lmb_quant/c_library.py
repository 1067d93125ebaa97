# SPDX-License-Identifier: Apache-2.0
"""Where the engine's library for C and C++ programs is, and how to compile with it; docs/c.md. Imports no torch."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from lmb_quant.errors import LMBError

_SHARED = ("liblmb_quant.so", "liblmb_quant.dylib")


def shared_libraries() -> list[Path]:
    """The places where the engine may be, whether it is there or not."""
    package = Path(__file__).parent  # an editable install has the library in site-packages, the sources elsewhere
    folders = dict.fromkeys([package, *(Path(entry) / "lmb_quant" for entry in sys.path if entry)])
    return [folder / "lib" / name for folder in folders for name in _SHARED]


@dataclass(frozen=True)
class CLibrary:
    """The installed library: ``shared`` is its file, beside it are the static one and what build tools read."""

    shared: Path

    @classmethod
    def find(cls) -> CLibrary:
        """The library that is installed.

        Raises:
            LMBError: If there is none.
        """
        for path in shared_libraries():
            if path.is_file():
                return cls(path)
        raise LMBError("the compiled engine is not installed; install again with a C++ compiler (GCC or Clang).")

    @property
    def pkgconfig(self) -> Path:
        """The folder of ``lmb_quant.pc``, for ``PKG_CONFIG_PATH``."""
        return self.shared.parent / "pkgconfig"

    @property
    def cmake(self) -> Path:
        """The folder of the CMake package, for ``lmb_quant_DIR``."""
        return self.shared.parent / "cmake" / "lmb_quant"

    def cflags(self) -> str:
        """What the compiler needs, quoted for a shell."""
        return shlex.join([f"-I{self.shared.parents[1] / 'include'}"])

    def libs(self, *, static: bool = False) -> str:
        """What the linker needs, quoted for a shell; the shared library is found at run time where it is now.

        Args:
            static: Whether the library becomes part of the program.
        """
        folder = self.shared.parent
        if static:
            runtime = "-lc++" if sys.platform == "darwin" else "-lstdc++"
            return shlex.join([str(folder / "liblmb_quant.a"), runtime, "-pthread", "-lm"])
        return shlex.join([f"-L{folder}", f"-Wl,-rpath,{folder}", "-llmb_quant"])
