# SPDX-License-Identifier: Apache-2.0
"""A page that reports: served on this machine's own address, opened in a headless Chromium."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from lmb_quant.errors import LMBError
from lmb_quant.integrations.web import PageHandler, PageServer

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MOST = 1 << 30  # bytes of a report
FAILED = "failed"
"""The name of the report with which a page says that it failed."""


def find_chromium(path: Path | None) -> Path:
    """The browser's program.

    Args:
        path: Where it is; None looks for the usual names.

    Raises:
        LMBError: If it is not there.
    """
    found = shutil.which(path) if path is not None else next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        looked = str(path) if path is not None else ", ".join(_NAMES)
        raise LMBError(f"--chromium: there is no such program: {looked}. Name Chromium or Chrome, version 95 or later.")
    return Path(found)


def chromium_version(program: Path) -> str:
    """Its name and version, as it says."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.search(r"\S*(?:Chrom\w+)[ \w]* [\d.]+", said)
    return found.group() if found else program.name


class Reports(PageServer):
    """A page whose scripts send reports, ``POST report/NAME``. It is isolated, so that it may use threads.

    Args:
        files: As in :class:`PageServer`.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.received: queue.Queue[tuple[str, bytes]] = queue.Queue()
        super().__init__(files, 0, _Handler)


class _Handler(PageHandler):
    server: Reports

    def do_POST(self) -> None:  # noqa: N802 - http.server finds it by this name
        name, length = self.path.removeprefix("/report/"), self.headers.get("Content-Length", "")
        if name == self.path or not length.isdecimal() or int(length) > _MOST:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self.server.received.put((name, self.rfile.read(int(length))))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def reports_of(program: Path, files: Mapping[str, bytes], last: str, seconds: float) -> Iterator[tuple[str, bytes]]:
    """Opens the page in a browser of its own and yields what it reports, until a report of the name ``last``.

    Raises:
        LMBError: If the page reports a failure, the browser ends, or nothing is heard for so many seconds.
    """
    with Reports(files) as server, _opened(program, server.address) as browser:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            name = ""
            while name != last:
                name, data = _next(server, browser, seconds)
                if name == FAILED:
                    raise LMBError(f"the page in {program.name} failed: {data.decode(errors='replace')}")
                yield name, data
        finally:
            server.shutdown()
            thread.join()


def _next(server: Reports, browser: subprocess.Popen[bytes], seconds: float) -> tuple[str, bytes]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(queue.Empty):
            return server.received.get(timeout=0.2)
        if browser.poll() is not None:
            raise LMBError(f"the browser ended with code {browser.returncode}. Run {browser.args!r} to see why.")
    raise LMBError(f"the page in the browser has said nothing for {seconds:.0f} seconds.")


@contextmanager
def _opened(program: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-extensions",
            f"--user-data-dir={profile}",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")  # it refuses to run as root with one
        browser = subprocess.Popen(
            [str(program), *options, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its processes are ended together
        )
        try:
            yield browser
        finally:
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGTERM)
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()
