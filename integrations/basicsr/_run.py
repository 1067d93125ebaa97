# SPDX-License-Identifier: Apache-2.0
"""What the train and the test command share: arguments, the checked option file, one message for a user's mistake."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from lmb_quant.errors import LMBError
from lmb_quant.files import make_folder
from lmb_quant.strict_yaml import dump_yaml

from basicsr.utils.logger import initialized_logger

from .option_check import check_options
from .option_read import find_option_file, override, read_options
from .stopping import StoppedBySignal, stoppable

_DESCRIPTION = "By a BasicSR option file. Experiments and results go to folders below the present one."


def run(prog: str, pipeline: Callable[[str], None], argv: Sequence[str] | None, *, is_train: bool) -> int:
    """Runs one of BasicSR's pipelines.

    Args:
        prog: The command's name in messages.
        pipeline: ``train_pipeline`` or ``test_pipeline``; takes the folder for its output.
        argv: Arguments without the command; None for the process's.
        is_train: Whether it trains.

    Returns:
        0; 2 after a user's mistake, which is told in one message; 130 or 143 where SIGINT or SIGTERM ended it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(prog, is_train=is_train).parse_args(arguments)
    try:
        with (
            stoppable() if is_train else contextlib.nullcontext(),
            _option_file(args, f"{prog} {' '.join(map(_quoted, arguments))}", is_train=is_train) as path,
            _argv(prog, path, args),
        ):
            if not is_train:  # a training looks for its own
                make_folder(Path.cwd() / "results")
            pipeline(os.getcwd())
    except (LMBError, OSError) as error:  # BasicSR writes pictures and logs, which a full disk refuses
        if os.environ.get("RANK", "0") == "0" or torch.distributed.is_initialized():
            sys.stderr.write(f"error: {error}\n")
        return 2
    except StoppedBySignal as stop:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(_how_to_go_on(stop, prog, arguments))
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def _quoted(word: str) -> str:
    """A word of a command, as a shell takes it, on one line."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.encode("unicode_escape").decode().replace("'", r"\'")
    return f"$'{escaped}'"


def _how_to_go_on(stop: StoppedBySignal, prog: str, arguments: Sequence[str]) -> str:
    words = [*arguments, *(() if "--auto_resume" in arguments else ("--auto_resume",))]
    command = f"{prog} {shlex.join(words)}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        processes = os.environ.get("LOCAL_WORLD_SIZE", "N")
        command = f"torchrun --nproc_per_node={processes} -m {__package__}.train {shlex.join(words)}"
    if stop.iteration is None:
        what = "at once; the last checkpoint, if there is one, holds"
    elif stop.state is None:
        what = "before the first iteration; there is no checkpoint"
    else:
        what = f"after iteration {stop.iteration:,}; its checkpoint is {os.path.relpath(stop.state)}"
    return f"stopped by {stop} {what}. To go on: {command}\n"


def _parser(prog: str, *, is_train: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=_DESCRIPTION)
    parser.add_argument(
        "-opt", "--opt", required=True, metavar="FILE", help="option file, or the name of a shipped one"
    )
    if is_train:
        parser.add_argument("--auto_resume", action="store_true", help="go on from the last complete checkpoint")
    parser.add_argument(
        "--force_yml", nargs="+", default=[], metavar="KEY:KEY=VALUE", help="values in place of the file's"
    )
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="pytorch under torchrun"
    )
    parser.add_argument("--debug", action="store_true", help="BasicSR's debug run: validates and logs often")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


@contextlib.contextmanager
def _option_file(args: argparse.Namespace, command: str, *, is_train: bool) -> Iterator[Path]:
    """Yields the file for BasicSR: with the overrides in it, and with every value read as it was checked."""
    source = find_option_file(args.opt)
    opt = read_options(source)
    override(opt, args.force_yml)
    with _fresh_logger():
        try:
            check_options(opt, str(source), is_train=is_train)
        except LMBError:
            raise
        except Exception as error:  # what the hosts raise on odd values; nothing has been created yet
            raise LMBError(f"{source}: cannot be used: {type(error).__name__}: {error}") from error
    if not is_train and opt["path"].get("pretrain_network_g") is None:
        sys.stderr.write(
            f"warning: {source}: path.pretrain_network_g is not given: an untrained network is evaluated\n"
        )
    with tempfile.TemporaryDirectory(prefix="lmb-quant-") as folder:
        path = Path(folder) / source.name
        text = dump_yaml(opt)
        path.write_text(f"# {source.absolute()} as used by: {command}\n{text}", encoding="utf-8")
        yield path


@contextlib.contextmanager
def _fresh_logger() -> Iterator[None]:
    """Keeps BasicSR's logger quiet inside, and lets the run that follows set it up for its own file."""
    logger = logging.getLogger("basicsr")
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        initialized_logger.pop("basicsr", None)
        logger.setLevel(logging.NOTSET)


@contextlib.contextmanager
def _argv(prog: str, path: Path, args: argparse.Namespace) -> Iterator[None]:
    """BasicSR reads its arguments from ``sys.argv``."""
    before = sys.argv
    resume = ["--auto_resume"] if getattr(args, "auto_resume", False) else []
    debug = ["--debug"] if args.debug else []
    sys.argv = [prog, "-opt", str(path), "--launcher", args.launcher, *resume, *debug]
    try:
        yield
    finally:
        sys.argv = before
