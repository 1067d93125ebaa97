# SPDX-License-Identifier: Apache-2.0
"""A trained experiment becomes a packed file and its model card: what ``lmb-quant bench card`` does."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from torch import nn

from lmb_quant import zoo
from lmb_quant.errors import LMBError
from lmb_quant.files import check_new, write_atomically
from lmb_quant.integrations.basicsr.checkpoint import load_weights
from lmb_quant.integrations.basicsr.hooks.step_times import read_step_times
from lmb_quant.integrations.basicsr.images import find_images
from lmb_quant.integrations.basicsr.metrics import run_network, upscale_bicubic
from lmb_quant.integrations.basicsr.networks import build, with_upscale
from lmb_quant.integrations.basicsr.run_record import read_runs
from lmb_quant.machine import in_words
from lmb_quant.packing import convert
from lmb_quant.rewrite import recipe_of
from lmb_quant.serialize import RealWeights, load, save
from lmb_quant.strict_yaml import dump_yaml, parse_mapping
from lmb_quant.zoo import Card

from .suite.measure.evaluate import evaluate
from .suite.measure.figures import count

_WORST = 3
"""Images that a card lists as those with the least gain."""


def make_card(
    experiment: Path,
    *,
    name: str,
    description: str,
    tests: Sequence[Path],
    data_licence: str,
    weaknesses: Sequence[str],
    output: Path,
    upscale: int | None = None,
    real_weights: RealWeights = "float32",
    force: bool = False,
) -> Card:
    """Packs the network of a training, evaluates the packed file, and writes both files.

    Args:
        experiment: ``experiments/<name>`` of a finished training: its options, ``models/net_g_latest.pth``,
            ``runs.jsonl`` and, where there is one, ``step_times.json``.
        name: Name of the network: of its files, without endings.
        description: One sentence.
        tests: Folders of HR images, each a test set.
        data_licence: What the images of the training may be used for, and where they are from.
        weaknesses: What is known to be weak, beside what is measured: the images with the least gain over bicubic.
        output: An existing folder for ``<name>.safetensors`` and ``<name>.md``.
        upscale: SR factor, for a network that was trained on images enlarged by several.
        real_weights: As in :func:`lmb_quant.save`.
        force: Whether existing files are replaced.

    Returns:
        The card's data.

    Raises:
        LMBError: If the experiment is not finished or not of a network for RGB images that can be packed, a test set
            is missing, a file exists, or the network has another SR factor.
    """
    if name in ("", "..") or Path(name).name != name:
        raise LMBError(f"--name: {name!r} is not allowed. Allowed: the name of a file, without folders.")
    paths = [output / f"{name}{ending}" for ending in (".safetensors", ".md")]
    for path in paths:
        check_new(path, force=force)
    for path in tests:
        find_images(str(path), "--test")
    opt, command = _options(experiment)
    opt = with_upscale(opt, upscale, str(experiment))
    network = _trained(experiment, opt)
    training = _training(experiment, opt, command)
    sets = {path.name: str(path) for path in tests}
    if len(sets) < len(tests):
        names = ", ".join(path.name for path in tests)
        raise LMBError(f"--test: {names} are the names of the sets. Allowed: folders of different names.")
    upscale = int(opt["scale"])
    if upscale == 1:
        raise LMBError(f"{experiment}: it was trained for several SR factors. Give --upscale, one of them.")
    costs = count(network, upscale)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / paths[0].name
        save(convert(network), draft, real_weights=real_weights)
        packed = load(draft)
        scores = evaluate(lambda image: run_network(packed, image), sets, upscale)
        bicubic = evaluate(lambda image: upscale_bicubic(image, upscale), sets, upscale)
        arch, recipe = dict(opt["network_g"]), recipe_of(network)
        card = Card.model_validate(
            {
                "name": name,
                "description": description,
                "arch": arch.pop("type"),
                "arch_args": {key: value for key, value in arch.items() if key != "recipe"},
                "recipe": recipe.metadata.name if recipe is not None else "none",
                "upscale": upscale,
                "bytes": draft.stat().st_size,
                "parameters": costs["params"],
                "ops": costs["ops"],
                "scores": _means(scores),
                "bicubic": _means(bicubic),
                "training": training,
                "data_licence": data_licence,
                "weaknesses": [*weaknesses, *_least_gains(scores, bicubic)],
            }
        )
        write_atomically(paths[1], _text(card, paths[0]).encode(errors="backslashreplace"))
        write_atomically(paths[0], draft.read_bytes())
    return card


def _options(experiment: Path) -> tuple[dict[str, Any], str]:
    """The options as the training used them, and its command."""
    found = sorted(experiment.glob("*.yml"))
    if len(found) != 1:
        raise LMBError(f"{experiment}: holds {len(found)} option files (.yml). Allowed: the folder of one training.")
    text = found[0].read_text(encoding="utf-8")
    used_by = [line.partition(" as used by: ")[2] for line in text.splitlines() if " as used by: " in line]
    return parse_mapping(text, str(found[0]), "an option file"), used_by[0] if used_by else "not recorded"


def _trained(experiment: Path, opt: dict[str, Any]) -> nn.Module:
    network = build(dict(opt["network_g"]))
    load_weights(network, experiment / "models" / "net_g_latest.pth", param_key="params_ema")
    return network.eval()


def _means(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: {"psnr": round(found["psnr"], 3), "ssim": round(found["ssim"], 5)} for name, found in scores.items()}


def _least_gains(scores: dict[str, Any], bicubic: dict[str, Any]) -> list[str]:
    """One line a test set: the images that gain least over bicubic."""
    lines = []
    for test, found in scores.items():
        gains = {
            image: figures["psnr"] - bicubic[test]["images"][image]["psnr"]
            for image, figures in found["images"].items()
        }
        worst = sorted(gains, key=lambda image: gains[image])[:_WORST]
        lines.append(f"Least gain on {test}: " + ", ".join(f"{image} ({gains[image]:+.2f} dB)" for image in worst))
    return lines


def _training(experiment: Path, opt: dict[str, Any], command: str) -> dict[str, Any]:
    runs = read_runs(experiment)
    if not runs:
        raise LMBError(f"{experiment}: has no runs.jsonl, which says with what it was trained. Train it again.")
    train = opt["datasets"]["train"]
    folders = train["dataroot_gt"] if isinstance(train["dataroot_gt"], list) else [train["dataroot_gt"]]
    last, steps = runs[-1], int(opt["train"]["total_iter"])
    seed = last.get("seed", opt.get("manual_seed"))
    if seed is None:
        raise LMBError(
            f"{experiment}: neither runs.jsonl nor the option file says its seed. Add manual_seed to the latter."
        )
    seconds = read_step_times(experiment).get("seconds")
    return {
        "command": command,
        "data": {Path(folder).name: len(find_images(folder)) for folder in folders},
        "steps": steps,
        "batch": int(train["batch_size_per_gpu"]),
        "patch": int(train["gt_size"]) // int(opt["scale"]),
        "seed": int(seed),
        "seconds": None if seconds is None else math.ceil(seconds * steps),
        "machine": ", ".join(f"{key} {value}" for key, value in in_words(last["machine"]).items()),
        "threads": last["threads"],
        "commits": sorted({run["commit"] or "not recorded" for run in runs}),
        "versions": last["versions"],
    }


def _text(card: Card, file: Path) -> str:
    in_zoo = file.resolve().parent == Path(zoo.__file__).resolve().parent
    head = dump_yaml(card.model_dump(mode="json"), width=110)
    source = files(__package__).joinpath("card.md.j2").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return f"---\n{head}---\n\n{template.render(card=card, model=card.name if in_zoo else file.name)}\n"
