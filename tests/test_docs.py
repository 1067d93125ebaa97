# SPDX-License-Identifier: Apache-2.0
"""README and docs: links lead somewhere, and the examples are true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lmb_quant as lmb
from lmb_quant.archs import LMBSRResNet

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page):
    """What the headings of a page are called in links, as on the repository's host and in the site."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings_of_the_pages(page):
    links = re.findall(r"\]\(([^)#:]*\.md)?#([^)]*)\)", page.read_text(encoding="utf-8"))
    missing = [(name, anchor) for name, anchor in links if anchor not in anchors(page.parent / name if name else page)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_of_the_project(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_readme_binarises_a_network(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    exec(blocks(ROOT / "README.md", "python")[0], {})
    assert "against float32" in capsys.readouterr().out
    assert lmb.load("net.safetensors")


def test_packing_page_packs_a_network(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    exec(blocks(ROOT / "docs" / "packing.md", "python")[0], {})
    shown = capsys.readouterr().out
    assert "rule that decided" in shown
    assert "against float32" in shown


def test_torchao_page_makes_a_network_binary():
    names = {}
    exec(blocks(ROOT / "docs" / "torchao.md", "python")[0], names)
    assert lmb.summary(names["model"]).layers


def test_short_recipe_of_the_recipes_page_is_a_recipe():
    recipe = lmb.Recipe.load(blocks(ROOT / "docs" / "recipes.md", "yaml")[0])
    assert lmb.plan(LMBSRResNet(num_feat=8, num_block=2, recipe=None), recipe).binary


def test_recipe_of_the_recipes_page_has_every_key():
    recipe = lmb.Recipe.load(blocks(ROOT / "docs" / "recipes.md", "yaml")[1])
    assert set(recipe.to_dict()) == set(lmb.Recipe.model_fields)


def test_analysis_page_analyses_a_network(capsys):
    exec(blocks(ROOT / "docs" / "analysis.md", "python")[0], {})
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_api_page_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: lmb_quant\.(\w+)$", page, flags=re.MULTILINE)
    assert {"LMBError", "RecipeError", *lmb._PLACES} - {"__version__"} <= set(shown)


def as_new_file(page, block, folder, name):
    """Writes an example of a guide as a file of its own; its relative imports lead to the package ``folder``."""
    code = re.sub(r"^from \.", f"from lmb_quant.{folder}.", blocks(ROOT / "docs" / page, "python")[block], flags=re.M)
    name.write_text(code, encoding="utf-8")


def test_binarizers_of_the_guide_work_as_new_files(tmp_path):
    for block, name in enumerate(("shifted_sign", "centered_sign")):
        as_new_file("adding_a_binarizer.md", block, "binarizers", tmp_path / f"{name}.py")
    program = """
import shifted_sign, centered_sign, torch
from torch import nn
import lmb_quant as lmb
from lmb_quant.binarizers import activation_binarizers, make_activation, make_weight, weight_binarizers
from lmb_quant.ops._library import find
recipe = lmb.Recipe.load("sign").to_dict()
recipe["scheme"]["activation"] = {"binarizer": "shifted_sign", "shift": 0.5}
recipe["scheme"]["weight"] = {"binarizer": "centered_sign", "scale": "channel_mean"}
net = lmb.binarize(nn.Sequential(*(nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 4), (4, 4), (4, 3)))), recipe)
print(net)
assert net[1].trains_by == "engine" or find()[0] is None
packed, x = lmb.convert(net), torch.rand(1, 3, 6, 5)
torch.testing.assert_close(packed(x), net.eval()(x))
assert packed[1].packed_bytes == net[1].packed_bytes
for make, registered, name, shape in (
    (make_activation, activation_binarizers(), "shifted_sign", (1, 1, 1, -1)),
    (make_weight, weight_binarizers(), "centered_sign", (1, -1, 1, 1)),
):
    golden = registered[name].golden
    x = torch.tensor(golden.x).view(shape).requires_grad_()
    y = make(nn.Conv2d(1, 1, 1), name, golden.options)(x)
    y.backward(torch.tensor(golden.grad_y).view(shape))
    assert (tuple(y.flatten().tolist()), tuple(x.grad.flatten().tolist())) == (golden.y, golden.grad_x)
"""
    output = run_new_files(tmp_path, program)
    assert "ShiftedSign(shift=0.5, surrogate='approx_sign')" in output
    assert "CenteredSign(surrogate='ste')" in output


def test_architecture_of_the_guide_works_as_one_new_file(tmp_path):
    as_new_file("adding_an_architecture.md", 0, "archs", tmp_path / "plain.py")
    program = """
import plain, torch
import lmb_quant as lmb
from lmb_quant.bench.networks import make_networks
net = plain.LMBPlain(num_feat=8, num_conv=2, upscale=2)
lmb.save(lmb.convert(net), "net.safetensors")
print(type(lmb.load("net.safetensors")).__name__, net.body[1].config.skip, net(torch.rand(1, 3, 12, 10)).shape)
print(make_networks("plain", 2, 8).arguments)
"""
    assert run_new_files(tmp_path, program).splitlines() == [
        "LMBPlain True torch.Size([1, 3, 24, 20])", "{'num_feat': 8, 'num_conv': 2, 'upscale': 4}",
    ]  # fmt: skip


def run_new_files(folder, program):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
