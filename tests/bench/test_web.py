# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/web: what is timed in a browser, and the page that reports."""

import http.client
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from lmb_quant import LMBError
from lmb_quant.bench.measure import sqnr
from lmb_quant.bench.web import measure_web
from lmb_quant.bench.web.browser import Reports, find_chromium, reports_of
from lmb_quant.bench.web.forms import FLOAT, INT8, PACKED, RIVAL, make_forms, make_pixels
from lmb_quant.cli import app

RUNTIME = Path(os.environ.get("LMB_ONNXRUNTIME_WEB", "node_modules/onnxruntime-web"))
SIZE = (12, 16)


def test_the_onnx_files_give_what_the_networks_give():
    pixels = make_pixels(SIZE)
    forms = make_forms([], pixels, lambda text: None)  # the float twins are made in the same way, and take longer
    assert [(form.network, form.form) for form in forms] == [(RIVAL, FLOAT), (RIVAL, INT8)]
    image = np.ascontiguousarray((pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None])
    for form in forms:
        (found,) = onnxruntime.InferenceSession(form.file).run(None, {"image": image})
        found = torch.from_numpy(np.ascontiguousarray(found[0].transpose(1, 2, 0)))
        ratio = sqnr(torch.from_numpy(form.expected.copy()), found)
        assert ratio >= form.least
        assert (ratio > 60) == (form.form == FLOAT)  # 8 bits are seen
    assert forms[0].expected.shape == (48, 64, 3)


def test_a_page_reports():
    with Reports({"index.html": b"page"}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        connection = http.client.HTTPConnection(*server.server_address[:2])
        connection.request("POST", "/report/times", b"[1]")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204
        assert server.received.get(timeout=10) == ("times", b"[1]")
        connection.request("POST", "/elsewhere", b"")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400
        connection = http.client.HTTPConnection(*server.server_address[:2])
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.read() == b"page"
        assert answer.getheader("Cross-Origin-Embedder-Policy") == "require-corp"  # else it has no threads
        server.shutdown()


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(LMBError, match=r"--chromium: there is no such program: /nowhere/chromium"):
        measure_web(chromium=Path("/nowhere/chromium"))
    with pytest.raises(LMBError, match=r"--onnxruntime-web: .* npm install onnxruntime-web"):
        measure_web(chromium=Path(shutil.which("true")), runtime=tmp_path)
    with pytest.raises(LMBError, match="the browser ended with code 0"):
        list(reports_of(Path(shutil.which("true")), {}, "times", 30))


def found_chromium():
    try:
        return find_chromium(None)
    except LMBError:
        return None


needs_chromium = pytest.mark.skipif(found_chromium() is None, reason="Chromium is not installed")


@needs_chromium
def test_a_page_that_fails_ends_the_measurement_with_its_words():
    page = b"<script>fetch('report/failed', {method: 'POST', body: 'no plan'})</script>"
    with pytest.raises(LMBError, match=r"the page in .* failed: no plan"):
        list(reports_of(find_chromium(None), {"index.html": page}, "times", 60))


@needs_chromium
@pytest.mark.skipif(
    not RUNTIME.is_dir(), reason="onnxruntime-web is not installed: LMB_ONNXRUNTIME_WEB names its folder"
)
def test_all_forms_are_compared_and_timed_in_a_browser(tmp_path):
    output = tmp_path / "web.json"
    command = ["bench", "web", "--smoke", "--onnxruntime-web", str(RUNTIME), "--output", str(output)]
    said = CliRunner().invoke(app, [*command, "--network", "lmb_small_x4"], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    assert "onnxruntime-web" in said.output
    figures = json.loads(output.read_text())
    assert [time["form"] for time in figures["times"]] == [PACKED, FLOAT, FLOAT, INT8]
    assert all(0 < time["minimum"] <= time["median"] for time in figures["times"])
