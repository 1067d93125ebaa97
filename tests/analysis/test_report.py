# SPDX-License-Identifier: Apache-2.0
"""The page, its files, and the command."""

import csv
import html
import io
import math
import re
import shutil
import subprocess

import pytest
import torch
from helpers import chain, conv, recipe
from PIL import Image
from torch import nn

from lmb_quant import LMBError, Recipe, binarize
from lmb_quant.analysis import Photograph, analyze, source_of
from lmb_quant.analysis.report import check_output, write, write_report
from lmb_quant.analysis.report.plots import slug
from lmb_quant.analysis.report.words import number, paragraph, percent
from lmb_quant.archs import LMBSRResNet
from lmb_quant.cli import main
from lmb_quant.strict_yaml import dump_yaml

from .conftest import needs_basicsr, picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

LAST = recipe("lmb", ignore=["@first"])


@pytest.fixture(scope="module")
def analysis():
    """A float SR network, and a binary classifier with a layer whose maps are of one pixel."""
    torch.manual_seed(0)
    photographs = [Photograph(f"{i}.png", picture(i)) for i in range(2)]
    floating = LMBSRResNet(num_feat=8, num_block=1, upscale=2, recipe=None)
    nn.init.normal_(floating.tail[0].weight, std=0.1)
    classifier = nn.Sequential(*chain(3, 4, 4), nn.AdaptiveAvgPool2d(1), conv(4, 4), nn.Flatten())
    sources = [source_of(floating, "<float> & x"), source_of(binarize(classifier, LAST), "classifier")]
    return analyze(sources, photographs, side=16)


@pytest.fixture(scope="module")
def written(analysis, tmp_path_factory):
    """The files of its report; the page first."""
    return write_report(analysis, tmp_path_factory.mktemp("report") / "page.html", advice="version: 1\n")


def test_the_files(analysis, written):
    tmp_path = written[0].parent
    assert written[0] == tmp_path / "page.html"
    assert {path.parent for path in written[1:]} == {tmp_path / "page"}
    assert not (tmp_path / "page" / "flips.csv").exists()
    names = {path.name for path in written}
    kinds = ("shares", "features", "detail", "entropy", "constant", "regions", "colours", "ranking", "maps")
    assert {f"{kind}-{slug('<float> & x')}.png" for kind in kinds} <= names
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "page" / "layers.csv").read_text())))
    assert len(rows) == sum(len(network.layers) for network in analysis.networks)
    spread = analysis.networks[0].layers[1].spread
    assert float(rows[1]["variance over pixels"]) == spread.pixels
    bits = list(csv.DictReader(io.StringIO((tmp_path / "page" / "bits.csv").read_text())))
    found = next(row for row in bits if row["layer"] == "body.0.conv1" and row["threshold"] == "local3")
    assert float(found["features"]) == analysis.networks[0].layers[1].ways["local3"].explained
    assert float(found["output error"]) == analysis.networks[0].layers[1].effects["local3"].error
    assert "nan" not in (tmp_path / "page" / "bits.csv").read_text().lower().replace("channel", "")


def test_the_page_is_self_contained_and_escapes(written):
    page = written[0].read_text(encoding="utf-8")
    assert "&lt;float&gt; &amp; x" in page
    assert "<float>" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", page)
    assert not re.findall(r"url\((?!#)|@import|fetch\(", page)
    assert "its maps are of one pixel" in page
    assert "nan" not in re.sub(r"data:[^\"]*|<svg.*?</svg>", "", page, flags=re.DOTALL).lower()


def test_the_words_hold_the_figures(analysis):
    text = paragraph(analysis)
    network = analysis.networks[0]
    assert text.startswith("<float> & x: of the variance")
    assert percent(sum(layer.spread.share("pixels") for layer in network.body) / len(network.body)) in text
    assert f"by {'local mean 3 x 3'}" in text
    assert (number(math.nan), percent(math.nan)) == ("–", "–")
    assert slug("lmb_small_x4") == "lmb_small_x4"
    assert re.fullmatch(r"timm-res-net-[0-9a-f]{8}", slug("timm/res net*"))
    assert slug("größe") != slug("grüße")


def test_nothing_is_overwritten_silently(analysis, written, tmp_path):
    with pytest.raises(LMBError, match=r"page.html: it exists. Allowed: another name, or --force"):
        write_report(analysis, written[0])
    page = tmp_path / "page.html"
    (tmp_path / "page").mkdir()
    check_output(page, force=False)
    (tmp_path / "page" / "mine.txt").write_text("kept")
    with pytest.raises(LMBError, match=r"page: it holds files. Allowed: another name, or --force"):
        check_output(page, force=False)
    check_output(page, force=True)
    with pytest.raises(LMBError, match=r"Allowed: a file NAME.html"):
        check_output(tmp_path / "page.htm", force=False)
    (tmp_path / "figures").touch()
    with pytest.raises(LMBError, match=r"figures', where the figures go, is a file"):
        check_output(tmp_path / "figures.html", force=True)
    with pytest.raises(LMBError, match=r"there is no folder"):
        check_output(tmp_path / "no" / "page.html", force=False)


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["lmb-quant", "analyze", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, " ".join(captured.err.split())

    return run


@needs_basicsr
def test_the_command_writes_report_and_recipe(command, tmp_path, folder, monkeypatch):
    monkeypatch.setattr(write, "network_plots", lambda network: [])  # drawn by the other tests
    net = LMBSRResNet(num_feat=8, num_block=2, upscale=2, recipe=None)
    nn.init.normal_(net.tail[0].weight, std=0.1)
    network = {"type": "LMBSRResNet", "num_feat": 8, "num_block": 2, "upscale": 2, "recipe": None}
    (tmp_path / "net.yml").write_text(dump_yaml({"network_g": network}))
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    model, page, mine = f"{tmp_path / 'net.yml'}:{tmp_path / 'net.pth'}", tmp_path / "a.html", tmp_path / "mine.yaml"
    arguments = (model, "--images", folder, "-o", page, "--side", 16, "--limit", 2)
    code, out, err = command(*arguments, "--advise", mine)
    assert code == 0, err
    assert str(page) in out
    assert "of the variance of the activations" in out
    advised = Recipe.load(mine)
    assert advised.metadata.name == "lmb-advised"
    assert binarize(net, advised)
    assert "--force" in command(*arguments)[2]
    assert "mine.yaml: it exists" in command(*arguments[:4], tmp_path / "b.html", "--advise", mine)[2]
    assert "Allowed: one, which is to be binarised" in command(
        model, "lmb_small_x4", "-o", tmp_path / "b.html", "--advise", tmp_path / "x.yaml"
    )[2]  # fmt: skip


@pytest.mark.parametrize(("recipe", "said"), [("lmb", "lmb_small_x4 has binary layers"), ("lmbb", "unknown recipe")])
def test_what_cannot_be_advised_is_said_before_anything_is_measured(
    command, tmp_path, folder, monkeypatch, recipe, said
):
    monkeypatch.setattr("lmb_quant.analysis.command.analyze", lambda *args, **options: pytest.fail("it measures"))
    page = ("-o", tmp_path / "a.html", "--images", folder)
    code, _, err = command("lmb_small_x4", *page, "--advise", tmp_path / "x.yaml", "--recipe", recipe)
    assert code == 2
    assert said in err


ACTIONS = """
const wide = [...document.querySelectorAll("body *")].filter((e) =>
  !e.closest(".wide, figure, pre") && e.getBoundingClientRect().right > window.innerWidth + 1);
const seen = [
  document.documentElement.scrollWidth <= window.innerWidth, wide.length,
  [...document.images].every((image) => image.complete && image.naturalWidth > 0), document.images.length > 5,
  document.querySelectorAll("figure svg").length, document.querySelector("#found p").innerText.length > 200,
];
document.querySelector("details").open = true;
seen.push(document.querySelector("details table").getBoundingClientRect().height > 0);
document.body.insertAdjacentHTML("beforeend", `<p id="seen">${seen.join("|")}</p>`);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_in_a_browser(written, tmp_path):
    """On a phone only tables and plots are wider than the screen, and they scroll by themselves."""
    page = written[0].read_text(encoding="utf-8")
    with_actions = tmp_path / "actions.html"
    with_actions.write_text(page.replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=390,900", "--dump-dom", with_actions.as_uri()],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    seen = html.unescape(re.findall(r'<p id="seen">(.*?)</p>', done.stdout)[-1]).split("|")
    assert seen == ["true", "0", "true", "true", str(page.count("<svg")), "true", "true"]
