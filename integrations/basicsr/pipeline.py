# SPDX-License-Identifier: Apache-2.0
"""What BasicSR's train_pipeline is given in place of its own parts: loaders that resume, safe resuming and stopping."""

from __future__ import annotations

import difflib
import functools
import logging
import math
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lmb_quant.errors import LMBError
from lmb_quant.files import make_folder

import basicsr.train
from basicsr.utils import check_resume

from .checkpoint import last_complete, load_file, made_by
from .compat import record_fix
from .progress import ProgressLogger
from .run_record import record_run
from .stopping import HeedlessWorker, stop_if_asked
from .stream import SeededDataset, StreamSampler

_PATIENCE = 10.0
"""Seconds that a run waits for one of its name to end: the loaders of one that was killed live a little longer."""

_build_dataset = basicsr.train.build_dataset
_create_loaders = basicsr.train.create_train_val_dataloader
_build_model = basicsr.train.build_model


def _check_fits(opt: dict[str, Any], path: Path, state: dict[str, Any]) -> None:
    """Refuses a state of another run, of another network or optimiser, or of a later iteration than the last."""
    own = Path(opt["path"]["training_states"])
    if path.resolve().parent != own.resolve():
        raise LMBError(
            f"path.resume_state: {str(path)!r} belongs to another run than {opt['name']!r}, whose states are in {own}. "
            "Set name to that run's, or start anew from its network with path.pretrain_network_g."
        )
    total = int(opt["train"]["total_iter"])
    if state["iter"] > total:
        raise LMBError(
            f"train.total_iter: {total:,} is less than the {state['iter']:,} iterations that {path} has done."
        )
    for key, value in state.get("lmb", {}).get("made_by", {}).items():
        present = made_by(opt).get(key)  # none where another version wrote the state
        if present != value:
            raise LMBError(
                f"{path}: was made with {key} {value!r}, the options have {present!r}. Give the run a new name."
            )


def _nothing_found(opt: dict[str, Any]) -> str:
    """What ``--auto_resume`` says where it finds nothing, with runs that have checkpoints and a name like this one."""
    own, name = Path(opt["path"]["experiments_root"]), opt["name"]
    others = [states.parent.parent.name for states in own.parent.glob("*/training_states/*.state")]
    names = sorted({other for other in others if other != own.name})
    alike = {other for other in names if other.startswith(name) or name.startswith(other)}
    alike |= set(difflib.get_close_matches(name, names, n=5))
    hint = f" Runs that look like it: {', '.join(sorted(alike)[:8])}; name chooses the run." if alike else ""
    return f"--auto_resume: {own} has no complete checkpoint: the training begins anew.{hint}"


class _Run:
    """One call of train_pipeline, which asks for the state to resume from first, then for the loaders and the model."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None
        self.notes: list[str] = []
        self.first, self.batches = 0, 1
        self.lock: FileLock | None = None

    def claim(self, opt: dict[str, Any]) -> None:
        """Sees to it that no other training writes into the run's folder until :meth:`release`."""
        if opt["rank"] != 0:
            return
        self.release()
        root = Path(opt["path"]["experiments_root"])
        make_folder(root.parent)
        lock = FileLock(root.parent / f".{root.name}.lock")  # beside the folder, which may be renamed
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            allowed = "another name, or to wait for its end"
            raise LMBError(f"name: {opt['name']!r}: another training writes into {root}. Allowed: {allowed}.") from None
        except OSError as error:
            raise LMBError(f"{root}: the folder cannot be used: {error.strerror or error}.") from error
        self.lock = lock

    def release(self) -> None:
        """Lets others train under the run's name."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def load_resume_state(self, opt: dict[str, Any]) -> dict[str, Any] | None:
        """Loads the last complete checkpoint's state; on any device, and below root_path rather than the cwd."""
        self.state, self.notes = None, []
        self.claim(opt)
        path: Path | None = None
        if opt["auto_resume"]:
            path, self.notes = last_complete(Path(opt["path"]["training_states"]))
            if path is None:
                self.notes.append(_nothing_found(opt))
        elif opt["path"].get("resume_state"):
            path = Path(opt["path"]["resume_state"])
        if path is None:
            return None
        self.state = load_file(path)
        if not {"epoch", "iter", "optimizers", "schedulers"} <= self.state.keys():
            raise LMBError(f"{path}: is not a training state. It has: {', '.join(list(self.state)[:8])}.")
        _check_fits(opt, path, self.state)
        opt["path"]["resume_state"] = str(path)
        check_resume(opt, self.state["iter"])
        if "network_g" not in (opt["path"].get("ignore_resume_networks") or []):
            opt["path"]["param_key_g"] = "params"  # of our own checkpoint; the option's was of the file before
        return self.state

    def create_loaders(self, opt: dict[str, Any], logger: logging.Logger) -> tuple[Any, ...]:
        """Makes the loaders, and lets the training samples go on where they stopped."""
        for note in self.notes:
            logger.warning(note)
        state = self.state
        if state is not None:
            opt["manual_seed"] = state.get("seed", opt["manual_seed"])
        loader, sampler, val_loaders, _, total_iters = _create_loaders(opt, logger)
        batches, batch = len(loader), loader.batch_size
        if batches == 0:
            raise LMBError(
                f"datasets.train: {len(sampler)} samples an epoch are fewer than a batch of {batch}. "
                "Raise dataset_enlarge_ratio or lower batch_size_per_gpu."
            )
        for each in (loader, *val_loaders):  # so that making an iterator draws nothing from torch's own generator
            each.generator = torch.Generator().manual_seed(opt["manual_seed"])
        loader.worker_init_fn = HeedlessWorker(loader.worker_init_fn)
        first = 0 if state is None else int(state["iter"])
        self.first, self.batches = first, batches
        sampler.begin(batch=batch, batches=batches, seed=opt["manual_seed"], first=first)
        if state is not None:
            state["epoch"] = first // batches
        if opt["rank"] == 0:
            record_run(opt["path"]["experiments_root"], first, int(opt["manual_seed"]))
        return (
            loader,
            sampler,
            val_loaders,
            math.ceil(total_iters / batches) - 1,
            total_iters,
        )  # the last epoch's number

    def build_model(self, opt: dict[str, Any]) -> Any:
        """Makes the model, whose first call of each iteration is where a training can be stopped."""
        model = _build_model(opt)
        update = model.update_learning_rate

        def update_learning_rate(current_iter: int, *args: Any, **kwargs: Any) -> None:
            done = current_iter - 1
            stop_if_asked(done, model.device, lambda: self._written(model, opt, done))
            update(current_iter, *args, **kwargs)

        model.update_learning_rate = update_learning_rate
        return model

    def _written(self, model: Any, opt: dict[str, Any], done: int) -> Path | None:
        """The state of the iteration ``done``, written now or, where a checkpoint was due, just before."""
        state = Path(opt["path"]["training_states"]) / f"{done}.state"
        if done > self.first and done % opt["logger"]["save_checkpoint_freq"]:
            write = getattr(model, "write_checkpoint", model.save)  # LMBModel.save may wait for a validation
            write(done // self.batches, done)
        return state if done else None


def _build_seeded_dataset(dataset_opt: dict[str, Any]) -> Any:
    dataset = _build_dataset(dataset_opt)
    return SeededDataset(dataset) if dataset_opt["phase"] == "train" else dataset


def install() -> None:
    """Puts the parts into :mod:`basicsr.train`; again is harmless."""
    train: Any = basicsr.train
    if train.EnlargedSampler is StreamSampler:
        return
    run = _Run()
    train.EnlargedSampler = StreamSampler
    train.build_dataset = _build_seeded_dataset
    train.create_train_val_dataloader = run.create_loaders
    train.load_resume_state = run.load_resume_state
    train.build_model = run.build_model
    train.MessageLogger = ProgressLogger
    original = train.train_pipeline

    @functools.wraps(original)
    def train_pipeline(root_path: str) -> None:
        try:
            original(root_path)
        finally:
            run.release()

    train.train_pipeline = train_pipeline
    record_fix("train_pipeline: resumes without a GPU, from the last complete checkpoint, at the same sample")
    record_fix("train_pipeline: SIGINT and SIGTERM stop it after the iteration, with a checkpoint")
    record_fix("train_pipeline: two trainings of one name do not write into one folder")
    record_fix("train_pipeline: epochs are as long as the loader, so that training does not end early")
