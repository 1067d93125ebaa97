# SPDX-License-Identifier: Apache-2.0
"""The files of the page: the page itself, the ES module with the engine, and the networks of the zoo."""

from __future__ import annotations

import json
from pathlib import Path

from lmb_quant.errors import LMBError
from lmb_quant.files import entries, is_folder, make_folder, write_atomically
from lmb_quant.zoo import card_text, network_file, network_names, parse_card

_HERE = Path(__file__).parent
_PAGE, _PACKAGE = _HERE / "page", _HERE / "package"
_NOT_SERVED = (".json", ".ts")  # for those who install the module
_DEFAULT = "lmb_base_x4"  # small enough for a phone


def site_files() -> dict[str, bytes]:
    """Everything that the page needs, by its path below the page's own address."""
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.is_file()}
    for path in sorted(_PACKAGE.iterdir()):
        if path.is_file() and path.suffix not in _NOT_SERVED:
            files[f"lmb-quant/{path.name}"] = path.read_bytes()
    return files | _networks()


def write_site(folder: Path) -> None:
    """Writes the page's files into a folder, from which any web server can serve them.

    Raises:
        LMBError: If the folder exists and is not empty, or cannot be written.
    """
    if is_folder(folder) and entries(folder):
        raise LMBError(f"{folder}: the folder is not empty. Allowed: a new or an empty folder.")
    for name in ("lmb-quant", "networks"):
        make_folder(folder / name)
    for name, data in site_files().items():
        write_atomically(folder / name, data, durable=False)


def _networks() -> dict[str, bytes]:
    files, entries = {}, []
    for name in sorted(network_names(), key=lambda name: (name != _DEFAULT, name)):
        with network_file(name) as path:
            files[f"networks/{name}.safetensors"] = path.read_bytes()
        card = parse_card(card_text(name), name)
        entries.append({"name": name, "description": card.description, "upscale": card.upscale, "bytes": card.bytes})
    files["networks/index.json"] = json.dumps(entries, indent=1).encode()
    return files
