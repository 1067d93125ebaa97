# SPDX-License-Identifier: Apache-2.0
"""Commands that train and compare networks: suites, model cards, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lmb_quant.cli._common import RealWeights, TrainedFor, bench, packed_network, say
from lmb_quant.errors import LMBError

_Only = Annotated[str | None, typer.Option(help="Glob for cells: 'lmb*', or 'NETWORK/sign/x4/seed0'.")]
_Jobs = Annotated[int | None, typer.Option(min=1, help="Cells at a time; default: one a GPU or core.")]
_Results = Annotated[Path, typer.Option(help="Folder of results; runs may share it, and reports are written there.")]


@bench.command("run")
def bench_run(
    suite: Annotated[
        str, typer.Argument(help="Name of a shipped suite (quick, front, full, ...), a YAML file, or tasks.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Images: DIR with train/<set> and test/<set>; tasks: a folder of photographs.")
    ] = None,
    only: _Only = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List cells and the time left, train nothing.")] = False,
    output: _Results = Path("lmb-bench"),
    jobs: _Jobs = None,
    latency: Annotated[
        bool | None,
        typer.Option("--latency/--no-latency", help="Measure latency at the end; default: as the suite says."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Spread cells over the Ray cluster at this address, or 'auto'.")
    ] = None,
) -> None:
    """Train and evaluate a suite's cells; finished ones are kept, begun ones continued. Exit code 1 if one failed."""
    if suite == "tasks":
        raise typer.Exit(_bench_tasks(data, output, only, dry_run=dry_run, others=(jobs, latency, ray)))
    if ray is not None and jobs is not None:
        raise LMBError("--jobs and --ray exclude each other. Allowed: one of them; a cluster's GPUs or cores decide.")
    from lmb_quant.bench.suite.run.job import prepare  # the host is heavy and optional

    console = Console()
    job = prepare(suite, data=data, output=output, only=only)
    if dry_run:
        from lmb_quant.bench.suite.run.dry_run import show

        show(job, console, jobs=jobs)
        return
    from lmb_quant.bench.suite.run.run import run

    if ray is None:
        raise typer.Exit(run(job, console, jobs=jobs, latency=latency))
    from lmb_quant.bench.suite.run.cluster import run_on_ray  # Ray is heavy and optional

    raise typer.Exit(run(job, console, scheduler=run_on_ray(ray), latency=latency))


@bench.command("rates")
def bench_rates(
    suite: Annotated[str, typer.Argument(help="Name of a shipped suite (quick, front, full, ...), or a YAML file.")],
    rate: Annotated[
        list[float] | None,
        typer.Option(help="A learning rate to try; again for more. Default: 1e-3, 2e-3, 4e-3, 8e-3."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each training; default: a quarter of the suite's.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Images: DIR with train/<set> and test/<set>.")] = None,
    only: _Only = None,
    output: _Results = Path("lmb-bench"),
    jobs: _Jobs = None,
) -> None:
    """Find the learning rate of each network and method of a suite, on its validation set."""
    from lmb_quant.bench.suite.run.rates import search_rates  # the host is heavy and optional

    tried = rate or [1e-3, 2e-3, 4e-3, 8e-3]
    code = search_rates(suite, tried, Console(), steps=steps, data=data, output=output, only=only, jobs=jobs)
    raise typer.Exit(code)


def _bench_tasks(
    data: Path | None, output: Path, only: str | None, *, dry_run: bool, others: tuple[object, ...]
) -> int:
    from lmb_quant.bench.tasks import run_tasks, show_tasks  # the hosts are heavy and optional

    if any(option is not None for option in others):
        raise LMBError(
            "tasks: --jobs, --latency and --ray are not allowed. Allowed: --data, --only, --dry-run, --output."
        )
    if dry_run:
        show_tasks(data, output, Console(), only=only)
        return 0
    return run_tasks(data, output, Console(), only=only)


@bench.command("card")
def bench_card(
    experiment: Annotated[Path, typer.Argument(help="experiments/NAME of a finished training.")],
    name: Annotated[str, typer.Option(help="Name of the network and of its files.")],
    description: Annotated[str, typer.Option(help="The network in a sentence.")],
    test: Annotated[list[Path], typer.Option(help="Folder of HR images, a test set; again for more.")],
    licence: Annotated[str, typer.Option(help="What the training images may be used for, and their origin.")],
    weakness: Annotated[list[str] | None, typer.Option(help="What is known to be weak; again for more.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for NAME.safetensors and NAME.md.")] = Path(),
    upscale: TrainedFor = None,
    real_weights: RealWeights = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Pack a trained network, evaluate the packed file on test sets, and write its model card."""
    from lmb_quant.bench.card import make_card  # the host is heavy and optional

    card = make_card(
        experiment,
        name=name,
        description=description,
        tests=test,
        data_licence=licence,
        weaknesses=weakness or [],
        output=output,
        upscale=upscale,
        real_weights=real_weights,
        force=force,
    )
    scores = ", ".join(f"{dataset} {score.psnr:.2f} dB" for dataset, score in card.scores.items())
    say(f"{output / name}.safetensors: {card.bytes:,} bytes; {scores}")


@bench.command("pictures")
def bench_pictures(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names that lmb-quant zoo lists, or files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write, NAME.png.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of HR images; default: scikit-image's photographs.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Images to draw: those with the least gain of the first.")] = 3,
    jpeg: Annotated[int | None, typer.Option(min=1, max=100, help="Make JPEGs of this quality of LR images.")] = None,
    noise: Annotated[float, typer.Option(min=0, max=100, help="Add noise to LR images: its deviation, of 255.")] = 0,
    blur: Annotated[float, typer.Option(min=0, max=10, help="Blur LR images: the deviation in LR pixels.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing picture.")] = False,
) -> None:
    """Draw where networks are weak: the images with the least gain over bicubic, and the worst part of each."""
    from lmb_quant.bench.pictures import compare  # the host is heavy and optional
    from lmb_quant.integrations.basicsr.degradation import Degradation
    from lmb_quant.upscaling import Upscaler

    damage = Degradation((blur, blur), (noise, noise), None if jpeg is None else (jpeg, jpeg))
    names = [Path(model).stem for model in models]
    for name in names:
        if names.count(name) > 1:
            raise LMBError(f"bench pictures: {name!r} names {names.count(name)} networks. Allowed: each its own name.")
        if name == "bicubic":
            raise LMBError("bench pictures: 'bicubic' is not allowed as a network's name: bicubic upscaling has it.")
    networks = {name: Upscaler(packed_network(model, "MODEL")) for name, model in zip(names, models, strict=True)}
    say(compare(networks, images, output, rows=rows, degradation=damage, force=force))
    say(f"{output}: {rows} images at most, those with the least gain of {names[0]}")


@bench.command("report")
def bench_report(
    output: _Results = Path("lmb-bench"),
    suite: Annotated[str | None, typer.Option(help="Name of the suite; default: the one that was run last.")] = None,
) -> None:
    """Write a suite's report into the folder of results: Markdown, CSV and one self-contained HTML page."""
    from lmb_quant.bench.suite.report.write import write_report  # plotting is heavy and optional

    for path in write_report(output, suite):
        say(str(path))
