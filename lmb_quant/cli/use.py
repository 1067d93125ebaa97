# SPDX-License-Identifier: Apache-2.0
"""Commands that use trained networks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from lmb_quant.cli._common import app, packed_network, say
from lmb_quant.errors import LMBError

_Arithmetic = Annotated[
    Literal["float32", "int8"],
    typer.Option(help="Of real pointwise convolutions: int8 is faster, most with AVX-512 VNNI, and as good."),
]


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
    arithmetic: _Arithmetic = "float32",
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

        model, measured = best_within(budget, 4 if factor is None else factor, threads, arithmetic)
        console.print(f"{model}: {measured:.0f} ms a megapixel")
    network = packed_network(DEFAULT if model is None else model)
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
def zoo(
    name: Annotated[str | None, typer.Argument(help="Show this network's model card.")] = None,
    path: Annotated[bool, typer.Option("--path", help="Print where its file is instead.")] = False,
    timed: Annotated[bool, typer.Option("--time", help="Measure each network on this machine: a minute.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of --time.")] = None,
    arithmetic: _Arithmetic = "float32",
) -> None:
    """List the trained networks that come with the package, or show the model card of one."""
    from lmb_quant.zoo import card_text, listing, network_file

    if timed and name is not None:
        raise LMBError(
            f"--time: with the name {name!r} it is not allowed. Allowed: lmb-quant zoo --time, all networks."
        )
    if threads is not None and not timed:
        raise LMBError(f"--threads: {threads} is not allowed without --time, which it belongs to.")
    if arithmetic != "float32" and not timed:
        raise LMBError(f"--arithmetic: {arithmetic} is not allowed without --time, which it belongs to.")
    if path:
        if name is None:
            raise LMBError("--path: a name is missing. Allowed: lmb-quant zoo NAME --path.")
        with network_file(name) as file:
            say(str(file))
        return
    if name is not None:
        say(card_text(name).rstrip())
        return
    times = None
    if timed:
        from lmb_quant.budget import milliseconds_of_all

        times = milliseconds_of_all(threads, arithmetic)
    say(listing(times))


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
        say(f"{output}: the page, {sum(1 for path in output.rglob('*') if path.is_file())} files")
        return
    with PageServer(site_files(), port) as server:
        say(f"The page is at {server.address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


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
        say("\n".join(map(str, [library.pkgconfig] * pkgconfigdir + [library.cmake] * cmakedir)))
        return
    both = cflags == libs
    say(" ".join([library.cflags()] * (both or cflags) + [library.libs(static=static)] * (both or libs)))


@app.command()
def doctor() -> None:
    """Show versions, applied fixes, CPU and GPU; what is not installed, and what to do for each problem.

    Exit code 1 if something is installed and does not work.
    """
    from lmb_quant.doctor import examine

    report = examine()
    say(str(report))
    raise typer.Exit(1 if report.problems else 0)
