# SPDX-License-Identifier: Apache-2.0
"""The lmb-quant command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from lmb_quant.errors import LMBError, UnknownArchitectureError

if TYPE_CHECKING:
    from torch import nn

app = typer.Typer(
    help="1-bit super-resolution networks by local-mean binarisation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure speed, and compare methods by a suite. Without a command: all measurements of speed.")
app.add_typer(bench, name="bench")
_FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}
_OptionFile = Annotated[str, typer.Option("-opt", "--opt", help="BasicSR option file, or the name of a shipped one.")]

_TrainedFor = Annotated[
    int | None, typer.Option("--upscale", help="SR factor of a network that was trained for several (upscale: 1).")
]
_RealWeights = Annotated[
    Literal["float32", "int8"],
    typer.Option(help="How the file holds the weights of convolutions that stayed real; int8 has a quarter."),
]


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
    upscale: _TrainedFor = None,
    real_weights: _RealWeights = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Pack a trained network: 1-bit weights, for lmb-quant upscale --model and lmb_quant.load()."""
    from lmb_quant.integrations.basicsr.packing import pack_checkpoint  # the host is heavy and optional

    packed = pack_checkpoint(
        checkpoint, opt, output, param_key=param_key, upscale=upscale, real_weights=real_weights, force=force
    )
    weights = {"params_ema": "params_ema (the moving average)", "params": "params (the plain weights)"}
    _say(f"{output}: {output.stat().st_size:,} bytes, {packed.kind} with {weights.get(str(packed.key), 'the weights')}")
    if not packed.has_arch:
        _say(f"It does not name its architecture: lmb_quant.load({str(output)!r}, model=...) takes the float network.")


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
    _say(str(make_plan(network, chosen)))


@app.command()
def summary(
    opt: _OptionFile,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width of the LR image, pixels.")] = (180, 320),
) -> None:
    """Count parameters, bytes and operations of an option file's network."""
    from lmb_quant.counting import summary as summarize
    from lmb_quant.integrations.basicsr.networks import built_network  # the host is heavy and optional

    network, channels = built_network(opt)
    _say(str(summarize(network, (1, channels, *size))))


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
        _say(json.dumps(recipe_schema(), indent=2))
    elif name is not None:
        _say(Recipe.load(name).to_yaml().rstrip())
    else:
        for known in recipe_names():
            _say(f"{known:12} {Recipe.load(known).metadata.description}")


@app.command()
def doctor() -> None:
    """Show versions, applied fixes, CPU and GPU; what is not installed, and what to do for each problem.

    Exit code 1 if something is installed and does not work.
    """
    from lmb_quant.doctor import examine

    report = examine()
    _say(str(report))
    raise typer.Exit(1 if report.problems else 0)


@app.command("c-flags")
def c_flags(
    cflags: Annotated[bool, typer.Option("--cflags", help="Only the compiler's.")] = False,
    libs: Annotated[bool, typer.Option("--libs", help="Only the linker's.")] = False,
    static: Annotated[bool, typer.Option("--static", help="Link the static library.")] = False,
    pkgconfigdir: Annotated[bool, typer.Option("--pkgconfigdir", help="The folder of lmb_quant.pc instead.")] = False,
    cmakedir: Annotated[bool, typer.Option("--cmakedir", help="The folder of the CMake package instead.")] = False,
) -> None:
    """Print the flags for C and C++ programs: cc program.c $(lmb-quant c-flags)."""
    from lmb_quant.c_library import CLibrary

    if (pkgconfigdir or cmakedir) and (cflags or libs or static):
        raise LMBError(
            "--pkgconfigdir, --cmakedir: with --cflags, --libs or --static they are not allowed. Allowed: without."
        )
    library = CLibrary.find()
    if pkgconfigdir or cmakedir:
        _say("\n".join(map(str, [library.pkgconfig] * pkgconfigdir + [library.cmake] * cmakedir)))
        return
    both = cflags == libs
    _say(" ".join([library.cflags()] * (both or cflags) + [library.libs(static=static)] * (both or libs)))


@app.command()
def upscale(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images, videos, and folders of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A file for one input, else a folder.")],
    model: Annotated[
        str | None,
        typer.Option(help="A name that lmb-quant zoo lists (default: lmb_large_x4), or a file of lmb_quant.save()."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Instead of --model: the best network that makes a megapixel in so many milliseconds here."),
    ] = None,
    factor: Annotated[int | None, typer.Option(help="SR factor of --budget: 2, 3 or 4; default: 4.")] = None,
    tile: Annotated[int | None, typer.Option(min=1, help="Side of a tile, LR pixels; default: about 2 GiB.")] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Around a tile, LR pixels; default: exact.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    arithmetic: Annotated[
        Literal["float32", "int8"],
        typer.Option(help="Of real pointwise convolutions: int8 is faster, most with AVX-512 VNNI, and as good."),
    ] = "float32",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Subfolders too; the output mirrors them.")] = (
        False
    ),
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out what is done: go on.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    small: Annotated[bool, typer.Option("--small", help="Smaller files, no more is lost; slow.")] = False,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Largest image that is read, pixels; default: 89 million.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Of videos: h264, hevc, av1, vp9, prores, ffv1; default: h264, in WebM vp9."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=0, max=100, help="Of videos: 100 loses least; default: 65.")
    ] = None,
) -> None:
    """Upscale images and videos. Exit code 1 if one failed; the others are done."""
    from lmb_quant.ops.startup import spare_compiler
    from lmb_quant.stages import require_int8
    from lmb_quant.upscaling import Upscaler
    from lmb_quant.upscaling.batch import Rules, run_jobs
    from lmb_quant.upscaling.inputs import check_targets, find_jobs
    from lmb_quant.upscaling.reading import MAX_PIXELS
    from lmb_quant.zoo import DEFAULT

    if force and skip_existing:
        raise LMBError("--force and --skip-existing exclude each other. Allowed: one of them.")
    if budget is not None and model is not None:
        raise LMBError("--budget and --model exclude each other. Allowed: one of them.")
    if factor is not None and budget is None:
        raise LMBError("--factor goes with --budget: a network that --model names has its own factor.")
    jobs, passed = find_jobs(inputs, output, recursive=recursive)
    check_targets(jobs)
    images, videos = ([job for job in jobs if job.is_video is wanted] for wanted in (False, True))
    if videos:
        from lmb_quant.upscaling.video.run import Encoding, check_encodings, run_videos  # PyAV is optional

        encoding = Encoding(codec, quality, small)
        check_encodings(videos, encoding)
    elif codec is not None or quality is not None:
        raise LMBError("--codec, --quality: no input is a video. Allowed: with videos.")
    spare_compiler()
    console = Console(stderr=True)
    if budget is not None:
        from lmb_quant.budget import best_within

        model, measured = best_within(budget, 4 if factor is None else factor, threads)
        console.print(f"{model}: {measured:.0f} ms a megapixel")
    network = _network(DEFAULT if model is None else model)
    if arithmetic == "int8":
        require_int8(network)
    upscaler = Upscaler(network, tile=tile, overlap=overlap, threads=threads)
    rules = Rules(force, skip_existing, MAX_PIXELS if max_pixels is None else max_pixels, small)
    failed = run_jobs(upscaler, images, console, rules) if images else 0
    if videos:
        failed += run_videos(upscaler, videos, console, rules, encoding)
    if str(passed):
        console.print(Text(f"passed over: {passed}"), soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


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
        _say(line)


@app.command()
def zoo(
    name: Annotated[str | None, typer.Argument(help="Show this network's model card.")] = None,
    path: Annotated[bool, typer.Option("--path", help="Print where its file is instead.")] = False,
    timed: Annotated[bool, typer.Option("--time", help="Measure each network on this machine: a minute.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of --time.")] = None,
) -> None:
    """List the trained networks that come with the package, or show the model card of one."""
    from lmb_quant.table import render
    from lmb_quant.zoo import card_text, network_file, network_names, parse_card

    if timed and name is not None:
        raise LMBError(
            f"--time: with the name {name!r} it is not allowed. Allowed: lmb-quant zoo --time, all networks."
        )
    if threads is not None and not timed:
        raise LMBError(f"--threads: {threads} is not allowed without --time, which it belongs to.")
    if path:
        if name is None:
            raise LMBError("--path: a name is missing. Allowed: lmb-quant zoo NAME --path.")
        with network_file(name) as file:
            _say(str(file))
        return
    if name is not None:
        _say(card_text(name).rstrip())
        return
    cards = [parse_card(card_text(known), known) for known in network_names()]
    sets = list(dict.fromkeys(test for card in cards for test in card.scores))

    def measured(network: str) -> tuple[str, ...]:
        if not timed:
            return ()
        from lmb_quant.budget import milliseconds_per_megapixel

        return (f"{milliseconds_per_megapixel(network, threads):.0f}",)

    rows = [
        (
            card.name,
            f"x{card.upscale}",
            card.recipe,
            f"{card.training.steps:,}",
            f"{card.bytes / 1e3:.0f}",
            f"{card.ops / 1e9:.2f}",
            *measured(card.name),
            *(f"{card.scores[test].psnr:.2f}" if test in card.scores else "" for test in sets),
        )
        for card in cards
    ]
    times = ("ms/MP",) if timed else ()
    columns = ("network", "upscale", "recipe", "steps", "KB", "OPs, G", *times, *(f"{test}, dB" for test in sets))
    _say(render("PSNR on Y; lmb-quant zoo NETWORK shows its model card", columns, rows, right=range(3, len(columns))))


@app.command()
def web(
    port: Annotated[
        int | None, typer.Option(help="Where; 0 takes a free port. Default: 8000, or a free one if that is in use.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the page into this folder, for a web server, and end.")
    ] = None,
) -> None:
    """Serve a page that upscales pictures in the browser, on this machine's own address."""
    from lmb_quant.integrations.web import PageServer, site_files, write_site

    if output is not None:
        if port is not None:
            raise LMBError("--port: with --output nothing is served. Give one of them.")
        write_site(output)
        _say(f"{output}: the page, {sum(1 for path in output.rglob('*') if path.is_file())} files")
        return
    with PageServer(site_files(), port) as server:
        _say(f"The page is at {server.address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


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


@bench.callback(invoke_without_command=True)
def bench_all(context: typer.Context) -> None:
    """Measure speed, and compare methods by a suite. Without a command: all measurements of speed."""
    if context.invoked_subcommand is None:
        bench_kernels()
        bench_speed()
        bench_training_step()


class _ArchitecturesInHelp(TyperCommand):
    """A command with ``--arch`` and ``--blocks``, whose help lists the architectures; they load torch."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from lmb_quant.archs import ARCHITECTURES

        known = ARCHITECTURES.values()
        parts = ", ".join(f"{arch.short_name}: {arch.parts} ({arch.default_count})" for arch in known)
        words = {
            "arch": f"Architecture, x4: {' or '.join(arch.short_name for arch in known)}.",
            "blocks": f"Parts of its body; default: {parts}.",
        }
        for parameter in self.params:
            if parameter.name in words:
                vars(parameter)["help"] = words[parameter.name]
        super().format_help(ctx, formatter)


_Rounds = Annotated[int, typer.Option(min=1, help="Timed runs of each form, all forms in turn.")]
_Figures = Annotated[Path | None, typer.Option(help="Write the figures as JSON; the file must not exist.")]
_Smoke = Annotated[bool, typer.Option("--smoke", help="Tiny sizes: does it run?")]


@bench.command("kernels")
def bench_kernels(
    channels: Annotated[
        str | None, typer.Option(help="Channel counts, each a layer; default: seven from 32 to 256, with --parts 64.")
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(min=1, help="Height and width of the input, pixels.")] = (180, 320),
    isa: Annotated[
        list[str] | None, typer.Option(help="Instruction set (amx, avx512, avx2, neon, portable); again for more.")
    ] = None,
    rounds: _Rounds = 15,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    parts: Annotated[
        bool, typer.Option("--parts", help="Cycles of each part inside the engine instead, beside its port limit.")
    ] = False,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time a packed layer against fp32, bf16 and int8, outputs compared first."""
    from lmb_quant.bench.kernels import BEST, CHANNELS, measure_kernels
    from lmb_quant.bench.part_times import measure_parts

    if smoke:
        size, rounds = (12, 16), 1
    if parts and threads != 1:
        raise LMBError(f"--threads: {threads} is not allowed with --parts. Allowed: 1.")
    channels = ("64" if parts else ",".join(map(str, CHANNELS))) if channels is None else channels
    words = [word.strip() for word in channels.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise LMBError(f"--channels: {channels!r} is not allowed. Allowed: whole numbers above 0, such as 32,64.")
    with _figures(output) as (tell, write):
        counts = [int(word) for word in words]
        if parts:
            write(measure_parts(channels=counts, size=size, isas=isa or [BEST], runs=rounds, tell=tell))
            return
        write(
            measure_kernels(
                channels=counts[:1] if smoke else counts,
                size=size,
                isas=isa or [BEST],
                rounds=rounds,
                threads=threads,
                with_compiled=not smoke,
                tell=tell,
            )
        )


@bench.command("speed", cls=_ArchitecturesInHelp)
def bench_speed(
    network: Annotated[
        str | None, typer.Option(help="A network that comes with the package, or a packed file, in place of --arch.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Architecture, x4.", show_default="srresnet")] = None,
    blocks: Annotated[int | None, typer.Option(min=1, help="Parts of its body.")] = None,
    num_feat: Annotated[int | None, typer.Option(min=1, help="Channels of the body.", show_default="64")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of the packed form, name or file.", show_default="lmb")
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(min=1, help="Height and width of the LR image, pixels.")] = (
        180,
        320,
    ),
    rounds: _Rounds = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, measured beside one thread.")] = 2,
    with_compiled: Annotated[
        bool, typer.Option("--compiled/--no-compiled", help="The forms under torch.compile, and int8: minutes.")
    ] = True,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time a packed network against float, bf16 and int8, compiled and not; its memory and its file."""
    from lmb_quant.bench.speed import measure_speed

    if smoke:
        size, rounds = (12, 16), 1
        if network is None:
            blocks, num_feat = 1, 8
    with _figures(output) as (tell, write):
        write(
            measure_speed(
                network=network,
                arch=arch,
                blocks=blocks,
                num_feat=num_feat,
                recipe=recipe,
                size=size,
                rounds=rounds,
                threads=threads,
                with_compiled=with_compiled and not smoke,
                tell=tell,
            )
        )


@bench.command("front")
def bench_front(
    suite: Annotated[str, typer.Option(help="Name of a suite, or its file.")] = "front",
    only: Annotated[
        list[str] | None, typer.Option(help="Glob: only cells with such a name, or part of it; again for more.")
    ] = None,
    rounds: _Rounds = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; with several, wall time is shown.")] = 1,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time a suite's networks without training them: binary, float, bf16 and int8, in turn."""
    from lmb_quant.bench.front import measure_front

    with _figures(output) as (tell, write):
        size, runs = ((12, 16), 1) if smoke else (None, rounds)
        write(measure_front(suite, only=only or (), rounds=runs, threads=threads, size=size, tell=tell))


@bench.command("web")
def bench_web(
    network: Annotated[
        list[str] | None,
        typer.Option(help="Name of the zoo, x4; again for more. Default: lmb_small_x4, lmb_base_x4, lmb_large_x4."),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None, typer.Option(help="Folder of the npm package; default: node_modules/onnxruntime-web.")
    ] = None,
    chromium: Annotated[
        Path | None, typer.Option(help="Program of Chromium or Chrome; default: it is looked for.")
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(min=1, help="Height and width of the input, pixels.")] = (180, 320),
    rounds: _Rounds = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of ONNX Runtime; the engine has one.")] = 1,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time the engine in a headless Chromium against onnxruntime-web: the float twins, and ECBSR in float and int8."""
    from lmb_quant.bench.web import measure_web
    from lmb_quant.bench.web.measure import NETWORKS, RUNTIME

    if smoke:
        size, rounds = (12, 16), 1
    with _figures(output) as (tell, write):
        write(
            measure_web(
                network or NETWORKS,
                runtime=onnxruntime_web or RUNTIME,
                chromium=chromium,
                size=size,
                rounds=rounds,
                threads=threads,
                tell=tell,
            )
        )


@bench.command("training-step")
def bench_training_step(
    recipe: Annotated[list[str] | None, typer.Option(help="Only this recipe; may be given several times.")] = None,
    rounds: _Rounds = 15,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time a training step of LMBSRResNet with each recipe against the float network."""
    from lmb_quant.bench.training_step import measure_training_steps

    with _figures(output) as (_, write):
        write(measure_training_steps(recipe, rounds=rounds, threads=threads, smoke=smoke))


@contextmanager
def _figures(output: Path | None) -> Iterator[tuple[Callable[[str], None], Callable[[Any], None]]]:
    """Yields what tells how a measurement goes on, and what shows its report and writes it to ``--output``."""
    from lmb_quant.bench.report import write_output
    from lmb_quant.files import check_new

    if output is not None:
        check_new(output)

    def write(report: Any) -> None:
        _say(str(report))
        if output is not None:
            write_output(output, report.to_json())

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(text), write


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
    upscale: _TrainedFor = None,
    real_weights: _RealWeights = "float32",
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
    _say(f"{output / name}.safetensors: {card.bytes:,} bytes; {scores}")


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
    networks = {name: Upscaler(_network(model)) for name, model in zip(names, models, strict=True)}
    _say(compare(networks, images, output, rows=rows, degradation=damage, force=force))
    _say(f"{output}: {rows} images at most, those with the least gain of {names[0]}")


@bench.command("report")
def bench_report(
    output: _Results = Path("lmb-bench"),
    suite: Annotated[str | None, typer.Option(help="Name of the suite; default: the one that was run last.")] = None,
) -> None:
    """Write a suite's report into the folder of results: Markdown, CSV and one self-contained HTML page."""
    from lmb_quant.bench.suite.report.write import write_report  # plotting is heavy and optional

    for path in write_report(output, suite):
        _say(str(path))


def _network(name_or_file: str) -> nn.Module:
    """A packed network by the name under which it comes with the package, or by its file."""
    from lmb_quant.serialize import load_named

    try:
        return load_named(name_or_file, "--model")
    except UnknownArchitectureError as error:
        try:
            from lmb_quant.integrations.spandrel import load_network  # a host is optional
        except ImportError:
            raise error from None
        return load_network(name_or_file)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> None:
    """Runs the command line; what a user did wrong ends in one message and exit code 2."""
    try:
        app()
    except LMBError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "bold red"), f" {error}"))
        raise SystemExit(2) from None
