# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/bench/suite/report: the same figures in Markdown, CSV and HTML, and a page that works in a browser."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from helpers import run_python
from PIL import Image

from lmb_quant import LMBError
from lmb_quant.bench.pareto import pareto_front
from lmb_quant.bench.suite.report import pictures
from lmb_quant.bench.suite.report.answers import answers
from lmb_quant.bench.suite.report.rows import Spread, find
from lmb_quant.bench.suite.report.write import to_csv, to_markdown, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PSNR = {"bicubic": (30.0,), "float": (32.0, 32.2), "sign": (31.0, 31.2), "lmb": (31.5,)}  # lmb's second seed failed
BYTES = {"float": 4000, "sign": 1000, "lmb": 1000}


CLOCK = {"rounds": 7, "machine": {"cpu": "<a CPU>", "pytorch": "2.13"}, "float": {"eager": 0.1, "compiled": 0.08}}
TIMINGS = {
    "float": {"forms": {"eager": {"median": 0.1}, "compiled": {"median": 0.08}}, "reasons": []},
    "sign": {"forms": {}, "reasons": ["no packed form: it shifts"]},
    "lmb": {"forms": {"packed": {"median": 0.04}}, "reasons": []},
}


def result(method, psnr):
    """A finished cell's record with figures that are easy to check."""
    scores = {"c": {"psnr": psnr, "ssim": psnr / 40, "images": {"0": {"psnr": psnr, "ssim": psnr / 40}}}}
    record = {"scores": scores, "versions": {"torch": "2.13"}, "machine": {"cpu": "<a CPU>"}}
    if method == "bicubic":
        return record
    is_float = method == "float"
    ops = 4e9 if is_float else 1e9
    figures = {
        "input_size": [1, 3, 360, 640], "params": ops / 1e5, "float_params": 4e4, "ops": ops, "float_ops": 4e9,
        "float_macs": 4e9 if is_float else 0, "binary_macs": 0 if is_float else 4e9,
        "additions": 0 if method != "lmb" else 5e8, "bytes": BYTES[method], "float_bytes": 4000,
        "bytes_note": "computed, not written: no file" if method == "sign" else "",
    }  # fmt: skip
    curve = [{"iter": step, "dataset": "c", "psnr": psnr - 1 / step, "ssim": 0.9} for step in (3, 6)]
    times = {"training_seconds": 120.0, "step_seconds": 0.02}
    return {**record, "figures": figures, "curve": curve, **times}


@pytest.fixture
def results(suite, job):
    """A folder of results as a run leaves it, but with made-up figures."""
    suite |= {"methods": ["bicubic", "float", "sign", "lmb"], "seeds": [0, 1], "description": "words & <words>"}
    prepared = job(suite)
    prepared.record()
    for cell in prepared.cells:
        if cell.seed >= len(PSNR[cell.method]):
            prepared.store.write_failure(cell, {"error": "the loss is not finite"})
            continue
        prepared.store.write_result(cell, result(cell.method, PSNR[cell.method][cell.seed]))
        folder = prepared.store.pictures(cell) / "c"
        folder.mkdir(parents=True)
        rng = np.random.default_rng(len(cell.method))
        for name in ("0.png", "0.hr.png"):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
        if cell.method in TIMINGS:
            prepared.store.write_latency("machine", cell.latency_key, TIMINGS[cell.method] | CLOCK)
    return prepared.store.root


def test_spread_and_front():
    assert Spread.of([31.0, 31.2]).text(2) == "31.10 ± 0.14"
    assert Spread.of([31.0]).text(2) == "31.00"
    assert Spread.of([float("inf")] * 2).text(2) == "inf"
    assert pareto_front([(4, 32), (1, 31), (1, 31.5), (2, 31.5), (3, 30)]) == [2, 0]


def test_markdown_has_every_method_and_what_is_missing(results):
    text = to_markdown(find(results, None))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == [
        "method", "upscale", "seeds", "c PSNR, dB", "c SSIM", "parameters, K", "OPs, G", "additions, G", "kB",
        "latency, ms", "speed-up", "training, min", "step, ms",
    ]  # fmt: skip
    assert [row[0] for row in rows[2:6]] == ["float", "lmb", "sign", "bicubic"]
    assert rows[2][1:] == [
        "x2", "2", "32.10 ± 0.14", "0.8025 ± 0.0035", "40.0", "4.000", "0.000", "4.0", "80.0 compiled", "",
        "2.0", "20.0",
    ]  # fmt: skip
    assert rows[3][2:4] == ["1", "31.50"]
    assert rows[3][6:9] == ["1.000 (4.0x less)", "0.500", "1.0 (4.0x less)"]
    assert rows[3][9:11] == ["40.0 packed", "2.00x"]
    assert rows[4][8:11] == ["1.0* (4.0x less)", "", ""]
    assert rows[5][5:] == [""] * 8
    assert "- Not timed: sign: no packed form: it shifts." in text
    assert "on <a CPU>, PyTorch 2.13" in text
    assert "- * computed, because no packed file of it can be written: sign." in text
    assert "- net/lmb/x2/seed1: failed: the loss is not finite" in text
    assert "LR image of 640 x 360 pixels at x2" in text
    assert "steps: 6" in text
    assert "cpu: <a CPU>" in text


def test_the_best_picture_for_a_given_cost(results):
    latency, size = answers(find(results, None))
    assert "latency" in latency.title
    assert latency.columns == ("ms, at most", "best", "best float", "best quantised", "best binary")
    assert latency.rows == (
        ("40.0", "lmb, 31.50", "none", "none", "lmb, 31.50"),
        ("80.0", "float, 32.10 ± 0.14", "float, 32.10 ± 0.14", "none", "lmb, 31.50"),
    )
    assert [row[:2] for row in size.rows] == [("1.0", "lmb, 31.50"), ("4.0", "float, 32.10 ± 0.14")]


def test_what_a_host_cannot_run_has_a_reason_and_no_figures(suite, job):
    suite["methods"] = ["float", "int4-packed"]
    prepared = job(suite)
    prepared.record()
    floating, packed = prepared.cells
    prepared.store.write_result(floating, result("float", 31.0))
    prepared.store.write_result(packed, {"unsupported": "it cannot"})
    findings = find(prepared.store.root, None)
    assert [row.method for row in findings.rows] == ["float"]
    assert "- net/int4-packed/x2: it cannot" in to_markdown(findings)
    assert "net/int4-packed/x2: it cannot" in write_report(prepared.store.root)[2].read_text()
    assert "int4-packed" not in to_csv(findings)


def test_csv_has_plain_numbers(results):
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(to_csv(find(results, "tiny"))))}
    assert float(rows["float"]["c PSNR, dB"]) == pytest.approx(32.1)
    assert float(rows["float"]["c PSNR standard deviation"]) == pytest.approx(0.02**0.5)
    assert rows["lmb"]["c PSNR standard deviation"] == ""
    assert float(rows["lmb"]["additions, G"]) == 0.5
    assert float(rows["float"]["eager, ms"]) == 100
    assert float(rows["float"]["compiled, ms"]) == float(rows["float"]["latency, ms"]) == 80
    assert rows["sign"]["latency, ms"] == ""
    assert rows["bicubic"]["OPs, G"] == ""


def test_the_page_is_self_contained_and_escapes(results):
    paths = write_report(results)
    assert [path.suffix for path in paths] == [".md", ".csv", ".html"]
    page = paths[2].read_text(encoding="utf-8")
    assert "words &amp; &lt;words&gt;" in page
    assert "<a CPU>" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", page)
    assert not re.findall(r"url\((?!#)|@import|fetch\(", page)
    assert page.count("<svg") == 4
    assert "<title>sign: 31.10 ± 0.14 dB, 1 G</title>" in html.unescape(page)


def test_a_second_network_has_its_name_in_the_table(suite, job):
    suite["networks"]["other"] = suite["networks"]["net"] | {"methods": ["float"]}
    suite["networks"]["other"]["arch"] = {"type": "LMBSRResNet", "num_feat": 4, "num_block": 1}
    prepared = job(suite)
    prepared.record()
    for cell in prepared.cells:
        prepared.store.write_result(cell, result(cell.method, 31.0))
    findings = find(prepared.store.root, None)
    assert {findings.label(row) for row in findings.rows} == {"net float", "net sign", "net lmb", "other float"}
    assert "| other | float |" in to_markdown(findings)


def test_the_window_with_the_most_detail_is_found(tmp_path):
    image = np.zeros((300, 400, 3), np.uint8)
    image[100:228, 200:328] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    Image.fromarray(image).save(tmp_path / "x.png")
    left, top, right, bottom = pictures._busiest(tmp_path / "x.png")
    assert (right - left, bottom - top) == (128, 128)
    assert abs(left - 200) <= 3
    assert abs(top - 100) <= 3


def test_what_cannot_be_reported_is_named(results, tmp_path):
    with pytest.raises(LMBError, match=r"unknown suite 'tini'. Did you mean 'tiny'\?"):
        write_report(results, "tini")
    with pytest.raises(LMBError, match=r"there are no results. Run lmb-quant bench run"):
        write_report(tmp_path / "empty")


def test_a_report_needs_no_host(results):
    """Without BasicSR, torchao, timm and what only training needs, in another process: the same files."""
    write_report(results)
    before = {path.name: path.read_bytes() for path in (results / "reports").iterdir()}
    shutil.rmtree(results / "reports")
    run_python(
        f"""
import sys
for name in ("basicsr", "torchao", "timm", "cv2", "lmdb", "scipy", "tensorboard", "torchvision", "ray"):
    sys.modules[name] = None  # an import of it fails
from lmb_quant.cli import main
sys.argv = ["lmb-quant", "bench", "report", "--output", {str(results)!r}]
main()
"""
    )
    assert {path.name: path.read_bytes() for path in (results / "reports").iterdir()} == before


ACTIONS = """
const heads = [...document.querySelectorAll("#results th")];
const order = () => [...document.querySelectorAll("#results tbody tr")].map((r) => r.cells[0].innerText).join(",");
const click = (title) => {
  heads.find((head) => head.innerText.startsWith(title)).querySelector("button").click();
  return order();
};
const seen = [order(), click("kB"), click("kB"), click("method")];
slider.value = 25;
slider.dispatchEvent(new Event("input"));
left.value = "lmb";
left.dispatchEvent(new Event("change"));
seen.push(over.style.clipPath, line.style.left, String(over.src !== under.src), [...right.options].length);
seen.push(document.documentElement.scrollWidth <= window.innerWidth);
document.body.insertAdjacentHTML("beforeend", `<p id="seen">${seen.join("|")}</p>`);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_in_a_browser(results, tmp_path):
    """Sorting, the slider, the choice of methods; on a phone nothing but the table and the plots is wider than it."""
    page = write_report(results)[2].read_text(encoding="utf-8")
    with_actions = tmp_path / "page.html"
    with_actions.write_text(page.replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=390,900", "--dump-dom", with_actions.as_uri()],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    seen = html.unescape(re.findall(r'<p id="seen">(.*?)</p>', done.stdout)[-1]).split("|")
    assert seen == [
        "float,lmb,sign,bicubic",
        "float,lmb,sign,bicubic",
        "lmb,sign,float,bicubic",
        "bicubic,float,lmb,sign",
        "inset(0px 75% 0px 0px)",
        "25%",
        "true",
        "5",
        "true",
    ]
