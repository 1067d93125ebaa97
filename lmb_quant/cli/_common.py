# SPDX-License-Identifier: Apache-2.0
"""The command line's two groups of commands, and what they share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lmb_quant.errors import UnknownArchitectureError

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

TrainedFor = Annotated[
    int | None, typer.Option("--upscale", help="SR factor of a network that was trained for several (upscale: 1).")
]
RealWeights = Annotated[
    Literal["float32", "int8"],
    typer.Option(help="How the file holds the weights of convolutions that stayed real; int8 has a quarter."),
]


def packed_network(name_or_file: str, argument: str = "--model") -> nn.Module:
    """A packed network by the name under which it comes with the package, or by its file."""
    from lmb_quant.serialize import load_named

    try:
        return load_named(name_or_file, argument)
    except UnknownArchitectureError as error:
        try:
            from lmb_quant.integrations.spandrel import load_network  # a host is optional
        except ImportError:
            raise error from None
        return load_network(name_or_file)


def say(text: str) -> None:
    """Prints a line of the answer."""
    sys.stdout.write(f"{text}\n")
