# SPDX-License-Identifier: Apache-2.0
"""The lmb-quant command: what it prints, and how it ends."""

import json
from functools import partial

import pytest
from helpers import run_command

from lmb_quant.recipe import recipe_names


@pytest.fixture
def command(monkeypatch, capsys):
    return partial(run_command, monkeypatch, capsys)


def test_recipes_are_listed_and_shown(command):
    code, out, _ = command("recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == recipe_names()
    assert "binarizer: local_mean" in command("recipes", "lmb")[1]


def test_schema_knows_the_registered_names(command):
    schema = json.loads(command("recipes", "--schema")[1])
    assert "local_mean" in schema["$defs"]["BinarizerChoice"]["properties"]["binarizer"]["enum"]
    assert "window" in schema["$defs"]["BinarizerChoice"]["properties"]


def test_a_users_mistake_is_one_message_and_exit_code_2(command):
    code, out, err = command("recipes", "lmbb")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown recipe 'lmbb'. Did you mean 'lmb'?")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("zoo lmb_small_x4 --time", "--time: with the name 'lmb_small_x4' it is not allowed"),
        ("zoo --threads 2", "--threads: 2 is not allowed without --time"),
        ("recipes lmb --schema", "--schema: with the name 'lmb' it is not allowed"),
        ("c-flags --cmakedir --static", "with --cflags, --libs or --static they are not allowed"),
        ("analyze lmb_small_x4 -o a.html --recipe sign", "--recipe: 'sign' is not allowed without --advise"),
        ("upscale a.png -o b.png --budget 100 --factor 7", "SR factor: 7 is not allowed. Allowed: 2, 3, 4."),
    ],
)
def test_an_option_that_would_do_nothing_is_an_error(command, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*words.split())
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    "words",
    [
        "upscale a.png -o b.png --model LONG",
        "convert a.pth -opt a.yml -o LONG/x.safetensors",
        "plan -opt LONG",
        "analyze LONG -o a.html",
        "analyze lmb_small_x4 -o LONG/a.html",
        "analyze lmb_small_x4 -o a.html --images LONG",
        "bench kernels --output LONG/a.json",
        "bench pictures lmb_small_x4 -o LONG/a.png",
        "bench pictures lmb_small_x4 -o a.png --images LONG",
        "bench run smoke --data LONG --output results",
        "bench run smoke --output file",
    ],
)
def test_a_place_that_cannot_be_reached_is_one_message(command, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, _, err = command(*words.replace("LONG", "x" * 300).split())
    assert code == 2
    assert err.startswith("error:")
    assert "File name too long" in err or "file/photographs" in err


def test_a_message_with_brackets_is_shown_as_it_is(command, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("version: 1\nmetadata: {name: x}\nignore: ['@frist']\nscheme: {}\n")
    assert "ignore" in command("recipes", path)[2] or "scheme" in command("recipes", path)[2]
    path.write_text(
        "version: 1\nmetadata: {name: x}\nignore: ['@frist']\n"
        "scheme: {activation: {binarizer: sign}, weight: {binarizer: sign}}\n"
    )
    assert "ignore[0]: unknown token '@frist'" in command("recipes", path)[2]


def test_plan_of_a_shipped_option_file(command):
    code, out, _ = command("plan", "-opt", "train_LMBSRResNet_x2.yml", "--recipe", "sign")
    assert code == 0
    assert "recipe sign" in out
    assert "32 binary" in out


def test_plan_of_a_float_network_asks_for_a_recipe(command):
    code, _, err = command("plan", "-opt", "train_LMBSRResNet_float_x4.yml")
    assert code == 2
    assert "--recipe" in err


def test_summary_of_a_shipped_option_file(command):
    code, out, _ = command("summary", "-opt", "train_LMBVDSR_x2.yml", "--size", "10", "12")
    assert code == 0
    assert "additions" in out


@pytest.mark.parametrize("name", ["train", "test"])
def test_option_file_that_is_not_there(command, name):
    code, _, err = command(name, "-opt", "train_LMBSRResNet_x5.yml")
    assert code == 2
    assert "train_LMBSRResNet_x5.yml" in err


def test_doctor_names_hosts_and_fixes(command):
    code, out, _ = command("doctor")
    assert code == 0
    assert all(word in out for word in ("torch", "basicsr integration", "fix applied", "CPU features", "problems"))


@pytest.mark.train
def test_demo_trains_compares_and_draws(command, tmp_path):
    code, out, err = command("demo", "--folder", tmp_path / "demo", "--steps", 10)
    assert code == 0, err
    assert all(f"\n {method} " in out for method in ("bicubic", "sign", "lmb-spatial"))
    assert (tmp_path / "demo" / "comparison.png").stat().st_size > 10_000
    assert (tmp_path / "demo" / "experiments" / "lmb-spatial_seed0" / "models" / "net_g_latest.pth").exists()


@pytest.mark.parametrize("subcommand", [("run", "smoke", "--dry-run", "--data", "images"), ("report",)])
def test_the_folder_of_results_is_named_in_one_way(command, tmp_path, subcommand):
    """Both fail here, for want of images and of results; neither knows another word for the folder."""
    code, _, err = command("bench", *subcommand, "--output", tmp_path / "results")
    assert code == 2
    assert str(tmp_path / "results") in err or "images" in err
    code, _, err = command("bench", *subcommand, tmp_path / "results")
    assert code == 2
    assert "unexpected extra argument" in err
