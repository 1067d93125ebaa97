# SPDX-License-Identifier: Apache-2.0
"""Commands that begin with an option file or a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lmb_quant.cli._common import RealWeights, TrainedFor, app, say
from lmb_quant.errors import LMBError

_FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}
_OptionFile = Annotated[str, typer.Option("-opt", "--opt", help="BasicSR option file, or the name of a shipped one.")]


@app.command(context_settings=_FORWARD, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train by a BasicSR option file: -opt FILE [--auto_resume] [--force_yml KEY:KEY=VALUE ...]."""
    from lmb_quant.integrations.basicsr.train import main as run  # the host is heavy and optional

    raise typer.Exit(run(context.args))


@app.command(context_settings=_FORWARD, add_help_option=False)
def test(context: typer.Context) -> None:
    """Evaluate by a BasicSR option file: -opt FILE [--force_yml KEY:KEY=VALUE ...]."""
    from lmb_quant.integrations.basicsr.test import main as run  # the host is heavy and optional

    raise typer.Exit(run(context.args))


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of a training: models/net_g_*.pth.")],
    opt: _OptionFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The packed file.")],
    param_key: Annotated[
        str | None, typer.Option(help="params or params_ema; default: params_ema where the file holds it.")
    ] = None,
    upscale: TrainedFor = None,
    real_weights: RealWeights = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Pack a trained network: 1-bit weights, for lmb-quant upscale --model and lmb_quant.load()."""
    from lmb_quant.integrations.basicsr.packing import pack_checkpoint  # the host is heavy and optional

    packed = pack_checkpoint(
        checkpoint, opt, output, param_key=param_key, upscale=upscale, real_weights=real_weights, force=force
    )
    weights = {"params_ema": "params_ema (the moving average)", "params": "params (the plain weights)"}
    say(f"{output}: {output.stat().st_size:,} bytes, {packed.kind} with {weights.get(str(packed.key), 'the weights')}")
    if not packed.has_arch:
        say(f"It does not name its architecture: lmb_quant.load({str(output)!r}, model=...) takes the float network.")


@app.command()
def plan(
    opt: _OptionFile,
    recipe: Annotated[str | None, typer.Option(help="Recipe in place of the option file's.")] = None,
) -> None:
    """Show what a recipe does to an option file's network, layer by layer, and which rule decided."""
    from lmb_quant.integrations.basicsr.networks import float_network  # the host is heavy and optional
    from lmb_quant.rewrite import plan as make_plan

    network, own_recipe = float_network(opt)
    chosen = recipe if recipe is not None else own_recipe
    if chosen is None:
        raise LMBError(f"{opt}: network_g: its recipe is ~ (a float network). Name one with --recipe.")
    say(str(make_plan(network, chosen)))


@app.command()
def summary(
    opt: _OptionFile,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width of the LR image, pixels.")] = (180, 320),
) -> None:
    """Count parameters, bytes and operations of an option file's network."""
    from lmb_quant.counting import summary as summarize
    from lmb_quant.integrations.basicsr.networks import built_network  # the host is heavy and optional

    network, channels = built_network(opt)
    say(str(summarize(network, (1, channels, *size))))


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe's YAML.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")] = False,
) -> None:
    """List the shipped recipes, show one, or print the JSON schema."""
    from lmb_quant.recipe import Recipe, recipe_names
    from lmb_quant.schema import recipe_schema

    if schema and name is not None:
        raise LMBError(f"--schema: with the name {name!r} it is not allowed. Allowed: one of them.")
    if schema:
        say(json.dumps(recipe_schema(), indent=2))
    elif name is not None:
        say(Recipe.load(name).to_yaml().rstrip())
    else:
        for known in recipe_names():
            say(f"{known:12} {Recipe.load(known).metadata.description}")


@app.command()
def analyze(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A name of lmb-quant zoo, a packed file, an option file, OPTIONS.yml:WEIGHTS.pth, a checkpoint or the "
            "folder of a training, timm/NAME, timm/NAME:WEIGHTS. Several are compared.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, NAME.html; figures go to the folder NAME.")],
    images: Annotated[Path | None, typer.Option(help="Folder of photographs; default: scikit-image's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Photographs, at most; evenly from the folder.")] = 8,
    side: Annotated[int | None, typer.Option(min=8, help="Side of the network's input, pixels.")] = None,
    advise: Annotated[
        Path | None, typer.Option(help="Write a recipe that spares the layers which lose most; one float network.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The plain recipe that --advise changes, name or file.", show_default="lmb")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Measure what one bit for each activation costs networks, layer by layer; a page, PNG, CSV, and a recipe."""
    from lmb_quant.analysis.command import run_analysis  # plotting is heavy and optional

    if recipe is not None and advise is None:
        raise LMBError(f"--recipe: {recipe!r} is not allowed without --advise, which changes it.")
    for line in run_analysis(
        models,
        output,
        images=images,
        limit=limit,
        side=side,
        advice=advise,
        recipe="lmb" if recipe is None else recipe,
        threads=threads,
        force=force,
        console=Console(stderr=True),
    ):
        say(line)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(file_okay=False, help="Where photographs, runs and the picture go.")] = Path(
        "lmb-demo"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method; the table shows mean and spread.")] = 1,
    steps: Annotated[int | None, typer.Option(min=0, help="Training steps of each run; 0 trains nothing.")] = None,
) -> None:
    """Upscale photographs by a trained network; then train LMB and plain sign, and compare: about four minutes."""
    from lmb_quant.demo import STEPS, run_demo

    run_demo(folder, seeds=seeds, steps=STEPS if steps is None else steps)
