# SPDX-License-Identifier: Apache-2.0
"""Commands that time networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from lmb_quant.cli._common import bench, say
from lmb_quant.errors import LMBError

_Rounds = Annotated[int, typer.Option(min=1, help="Timed runs of each form, all forms in turn.")]
_Figures = Annotated[Path | None, typer.Option(help="Write the figures as JSON; the file must not exist.")]
_Size = Annotated[tuple[int, int], typer.Option(min=1, help="Height and width of the input, pixels.")]
_Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]
_Smoke = Annotated[bool, typer.Option("--smoke", help="Tiny sizes: does it run?")]
_TINY = (12, 16)


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


@bench.command("kernels")
def bench_kernels(
    channels: Annotated[
        str | None, typer.Option(help="Channel counts, each a layer; default: seven from 32 to 256, with --parts 64.")
    ] = None,
    size: _Size = (180, 320),
    isa: Annotated[
        list[str] | None, typer.Option(help="Instruction set (amx, avx512, avx2, neon, portable); again for more.")
    ] = None,
    rounds: _Rounds = 15,
    threads: _Threads = 1,
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
        size, rounds = _TINY, 1
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
    size: _Size = (180, 320),
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
        size, rounds = _TINY, 1
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
    suite: Annotated[str | None, typer.Option(help="Name of a suite, or its file.", show_default="front")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Glob: only cells with such a name, or part of it; again for more.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Timed runs of each form, all forms in turn.", show_default="9")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; with several, wall time is shown.", show_default="1")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="CSV of a report, for the PSNR; default: what comes with a shipped suite.")
    ] = None,
    test_set: Annotated[
        str | None, typer.Option(help="Test set whose PSNR decides; default: the first of the scores.")
    ] = None,
    times: Annotated[
        Path | None, typer.Option(help="Figures that --output wrote, perhaps elsewhere, in place of a measurement.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw PSNR against latency, NAME.svg; the file must not exist.")
    ] = None,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time a suite's networks without training them, and tell which gives the best picture at each latency."""
    from lmb_quant.bench.front import Request, run_front

    given = {"--suite": suite, "--only": only, "--rounds": rounds, "--threads": threads, "--smoke": smoke or None}
    if times is not None and (unfit := [name for name, value in given.items() if value is not None]):
        raise LMBError(f"{unfit[0]} is not allowed with --times: {times} says what was measured.")
    request = Request(
        suite=suite or "front",
        only=tuple(only or ()),
        rounds=1 if smoke else rounds or 9,
        threads=threads or 1,
        size=_TINY if smoke else None,
        scores=scores,
        test_set=test_set,
        times=times,
        picture=picture,
    )
    with _figures(output) as (tell, write):
        run_front(request, write, tell)


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
    size: _Size = (180, 320),
    rounds: _Rounds = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of ONNX Runtime; the engine has one.")] = 1,
    output: _Figures = None,
    smoke: _Smoke = False,
) -> None:
    """Time the engine in a headless Chromium against onnxruntime-web: the float twins, and ECBSR in float and int8."""
    from lmb_quant.bench.web import measure_web
    from lmb_quant.bench.web.measure import NETWORKS, RUNTIME

    if smoke:
        size, rounds = _TINY, 1
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
    threads: _Threads = 1,
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
        say(str(report))
        if output is not None:
            write_output(output, report.to_json())

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(text), write
