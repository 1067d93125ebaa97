# SPDX-License-Identifier: Apache-2.0
"""bench/card.py: a training becomes a packed file and its card. Here for the small trainings that this folder has."""

from pathlib import Path

import pytest
from PIL import Image

import lmb_quant as lmb
from lmb_quant.bench.card import make_card
from lmb_quant.integrations.basicsr.images import crop_to_multiple, read_bgr, reduce_image
from lmb_quant.integrations.basicsr.metrics import psnr_y, run_network
from lmb_quant.integrations.basicsr.run_record import read_runs
from lmb_quant.zoo import parse_card

EXPERIMENT = Path("experiments/tiny")


def card_of(**changes):
    given = {
        "name": "tiny_x2",
        "description": "A tiny network.",
        "tests": [Path("images/val")],
        "data_licence": "Drawn by the tests.",
        "weaknesses": ["Trained for seconds."],
        "output": Path("out"),
    }
    Path("out").mkdir(exist_ok=True)
    return make_card(EXPERIMENT, **(given | changes))


@pytest.fixture
def experiment(run, options):
    options["train"]["hooks"] = [{"type": "StepTimes"}]
    assert run(options) == 0


def test_the_card_has_the_figures_of_the_packed_file(experiment):
    card = card_of()
    text = Path("out/tiny_x2.md").read_text()
    assert parse_card(text, "card") == card
    assert sorted(path.name for path in Path("out").iterdir()) == ["tiny_x2.md", "tiny_x2.safetensors"]
    assert card.bytes == Path("out/tiny_x2.safetensors").stat().st_size
    assert (card.arch, card.recipe, card.upscale) == ("LMBSRResNet", "lmb", 2)
    assert card.arch_args == {"num_feat": 8, "num_block": 1, "upscale": 2}
    assert card.training.data == {"train": 3}
    assert (card.training.steps, card.training.batch, card.training.patch, card.training.seed) == (12, 2, 12, 3)
    assert card.training.seconds > 0
    assert "train -opt" in card.training.command

    net = lmb.load("out/tiny_x2.safetensors")
    scores = []
    for path in sorted(Path("images/val").iterdir()):
        hr = crop_to_multiple(read_bgr(path), 2)
        scores.append(psnr_y(run_network(net, reduce_image(hr, 2)), hr, 2))
    assert card.scores["val"].psnr == pytest.approx(sum(scores) / len(scores), abs=5e-4)
    assert card.weaknesses[0] == "Trained for seconds."
    assert card.weaknesses[1].startswith("Least gain on val: ")
    assert "--model tiny_x2.safetensors\n" in text
    for said in (f"{card.scores['val'].psnr:.2f} dB", "Drawn by the tests.", "train (3)"):
        assert said in text


def test_a_network_for_several_factors_gets_a_card_for_each(run, options):
    options["network_g"] = {"type": "LMBVDSR", "num_feat": 8, "num_conv": 1, "upscale": 1}
    options["scale"] = 1
    options["datasets"]["train"].update(gt_size=24, interpolated=[2, 3])
    options["datasets"]["val"].update(interpolated=[3])
    assert run(options) == 0
    with pytest.raises(lmb.LMBError, match=r"trained for several SR factors\. Give --upscale"):
        card_of()
    card = card_of(upscale=3)
    assert (card.upscale, card.arch_args["upscale"], card.training.patch) == (3, 3, 8)
    hr = crop_to_multiple(read_bgr(sorted(Path("images/val").iterdir())[0]), 3)
    assert run_network(lmb.load("out/tiny_x2.safetensors"), reduce_image(hr, 3)).shape == hr.shape


def test_a_seed_that_basicsr_drew_is_in_the_card(run, options):
    options.pop("manual_seed")
    assert run(options) == 0
    (entry,) = read_runs(EXPERIMENT)
    assert card_of().training.seed == entry["seed"]


def test_images_of_one_stem_both_count(experiment):
    Image.open("images/val/0.png").rotate(180).save("images/val/0.bmp")
    said = card_of().weaknesses[1]
    assert "0.png (" in said
    assert "0.bmp (" in said


def test_existing_files_need_force(experiment):
    card_of()
    before = Path("out/tiny_x2.md").read_bytes()
    with pytest.raises(lmb.LMBError, match=r"tiny_x2\.safetensors: it exists\..*--force"):
        card_of(description="Another.")
    assert Path("out/tiny_x2.md").read_bytes() == before
    before = Path("out/tiny_x2.safetensors").stat().st_size
    assert card_of(description="Another.", real_weights="int8", force=True).description == "Another."
    assert Path("out/tiny_x2.safetensors").stat().st_size < before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upscale": 3}, "--upscale: 3 does not fit experiments/tiny, whose network_g has upscale: 2"),
        ({"name": "a/b"}, "--name: 'a/b' is not allowed"),
        ({"output": Path("nowhere")}, "there is no folder 'nowhere'"),
        ({"tests": [Path("images/none")]}, "--test: 'images/none' is not a folder"),
        ({"tests": [Path("images/val"), Path("images/../images/val")]}, "--test: val, val are the names of the sets"),
    ],
)
def test_what_cannot_be_used(experiment, changes, said):
    with pytest.raises(lmb.LMBError, match=said):
        card_of(**changes)
    assert not any(Path("out").iterdir())


def test_a_folder_that_is_no_experiment():
    EXPERIMENT.mkdir(parents=True)
    with pytest.raises(lmb.LMBError, match=r"holds 0 option files"):
        card_of()


def test_a_float_network_has_no_packed_file(run, options):
    options["network_g"]["recipe"] = None
    assert run(options) == 0
    with pytest.raises(lmb.LMBError, match="no binary"):
        card_of()


@pytest.mark.parametrize("text", ["", "# no data", "---\nname: x\n", "---\n- 1\n---\n", "---\nname: x\n---\n"])
def test_texts_that_are_no_cards(text):
    with pytest.raises(lmb.LMBError, match="card"):
        parse_card(text, "card")
