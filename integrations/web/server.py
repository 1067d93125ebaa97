# SPDX-License-Identifier: Apache-2.0
"""The page on this machine's own address, for this machine only."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from lmb_quant.errors import LMBError

HOST = "127.0.0.1"
USUAL_PORT = 8000
_TYPES = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".safetensors": "application/octet-stream",
    }
)


class PageServer(ThreadingHTTPServer):
    """Serves files that it holds in memory. It listens once it is made; ``serve_forever`` answers.

    Args:
        files: What is served, by path.
        port: Where; 0 takes a free port. None takes the usual one, or a free one where that is in use.
        handler: What answers.

    Raises:
        LMBError: If the port is not allowed, in use, or not this user's.
    """

    daemon_threads = True

    def __init__(
        self, files: Mapping[str, bytes], port: int | None = None, handler: type[PageHandler] | None = None
    ) -> None:
        self.files = files
        handler = handler or PageHandler
        if port is not None and not 0 <= port <= 65535:
            raise LMBError(f"port: {port} is not allowed. Allowed: 0 to 65535; 0 takes a free one.")
        try:
            super().__init__((HOST, USUAL_PORT if port is None else port), handler)
        except OSError as error:
            if port is None and error.errno == errno.EADDRINUSE:
                super().__init__((HOST, 0), handler)
                return
            raise LMBError(f"port {port}: {error.strerror or error}. Name another one; 0 takes a free one.") from error

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """Answers with a file, or that there is none."""

    server: PageServer

    def do_GET(self) -> None:
        """A file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """What a file is."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the command's own words are enough."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        data = self.server.files.get(path)
        if data is None:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"There is no {path[:200]!r} here.")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(data)
