# SPDX-License-Identifier: Apache-2.0
"""What ``lmb-quant analyze`` does: networks and photographs in; a page, figures and a recipe out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmb_quant.errors import LMBError
from lmb_quant.files import check_new, write_atomically

from .advice import advise, check_advisable
from .images import Photograph, read_photographs
from .measure import Analysis, analyze
from .report import check_output, write_report
from .report.words import paragraph
from .sources import Source, source_of


def run_analysis(
    models: Sequence[str],
    output: Path,
    *,
    images: Path | None,
    limit: int,
    side: int | None,
    advice: Path | None,
    recipe: str,
    threads: int | None,
    force: bool,
    console: Console,
) -> Iterator[str]:
    """Analyses networks and writes the report; yields the lines to print.

    Args:
        models: As the command takes them.
        output: The page, ``NAME.html``.
        images: Folder of photographs; None for scikit-image's.
        limit: Photographs, at most.
        side: Of the networks' input; None for each network's own.
        advice: File for a recipe; None for none.
        recipe: The plain recipe.
        threads: CPU threads; None leaves them.
        force: Whether existing files are replaced.
        console: Shows the progress.

    Raises:
        LMBError: If a model, an image or a file is not as it should be; all of it but a network's own failure is found
            before anything is measured.
    """
    check_output(output, force=force)
    _check_advice(advice, models, force=force)
    photographs = read_photographs(images, limit)
    sources = [source_of(model) for model in models]
    if advice is not None:
        check_advisable(sources[0], recipe)
    analysis = _analyze(sources, photographs, side, threads, console)
    text = ""
    if advice is not None:
        text = advise(analysis.networks[0], recipe).text
        write_atomically(advice, text.encode())
        yield f"{advice}: recipe"
    written = write_report(analysis, output, advice=text, force=force)
    yield f"{written[0]}: report; {len(written) - 1} figures and tables in {output.with_suffix('')}"
    yield paragraph(analysis)


def _analyze(
    sources: Sequence[Source],
    photographs: Sequence[Photograph],
    side: int | None,
    threads: int | None,
    console: Console,
) -> Analysis:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(text: str, done: int, total: int) -> None:
            progress.update(task, description=escape(text), completed=done, total=total)

        return analyze(sources, photographs, side=side, threads=threads, tell=tell)


def _check_advice(path: Path | None, models: Sequence[str], *, force: bool) -> None:
    if path is None:
        return
    if len(models) != 1:
        raise LMBError(f"--advise: {len(models)} networks are given. Allowed: one, which is to be binarised.")
    if path.suffix not in (".yaml", ".yml"):
        raise LMBError(f"--advise: {str(path)!r} is not allowed. Allowed: a file NAME.yaml.")
    check_new(path, force=force)
