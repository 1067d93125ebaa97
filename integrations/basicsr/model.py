# SPDX-License-Identifier: Apache-2.0
"""LMBModel: BasicSR's SRModel with hooks, safe checkpoints and exact resuming."""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmb_quant.errors import LMBError
from lmb_quant.modules import binary_convs, ends_precision, set_precision

from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger

from .checkpoint import load_weights, made_by, network_of, save_atomically
from .hooks import Hook, make_hooks
from .metrics_log import read_validations, write_validations
from .optim import make_optimizer, make_scheduler, parameter_groups
from .rng import get_rng_state, isolated_rng, set_rng_state


class LMBModel(SRModel):
    """An SRModel for binary networks; option files name it as ``model_type``.

    Beyond SRModel: hooks (``train: hooks:``), more optimisers and schedulers, checkpoints that are complete or absent,
    a resumed run that equals an unbroken one, ``validation.jsonl``. Options: :mod:`.option_schema`.

    A checkpoint that falls together with a validation is written right after it, so that it holds the best figures.
    """

    hooks: list[Hook]
    loss: Tensor
    losses: OrderedDict[str, Tensor]
    extra_log: dict[str, float]
    last_checkpoint: Path | None

    @property
    def bare_net(self) -> nn.Module:
        """The trained network without its wrapper for several processes or GPUs."""
        return self.get_bare_model(self.net_g)

    @property
    def total_iter(self) -> int:
        """Iterations of the whole training."""
        return int(self.opt["train"]["total_iter"])

    def init_training_settings(self) -> None:
        """Makes EMA, losses, optimisers, schedulers and hooks."""
        self.hooks = make_hooks(self.opt["train"].get("hooks"))
        self.extra_log, self.last_checkpoint = {}, None
        self._pending: tuple[int, int] | None = None
        self._validated: set[tuple[str, int]] = set()
        self._val_sets = sum(phase.split("_")[0] == "val" for phase in self.opt["datasets"])
        self._val_done = 0
        super().init_training_settings()
        self._set_precision(self.opt["train"].get("precision", "auto"))
        for hook in self.hooks:
            hook.before_train(self)

    def _set_precision(self, name: str) -> None:
        """``train.precision``: float layers by autocast, binary ones by the engine or oneDNN; says what trains how."""
        on_cpu = self.device.type == "cpu"
        layers = set_precision(self.bare_net, name)
        ends = ends_precision(name) if on_cpu or name != "auto" else "fp32"
        self._ends_in_bf16 = ends == "bf16"
        paths = Counter(conv.trains_by for conv in binary_convs(self.bare_net))
        if paths:
            ways = "; ".join(f"{count} by {path}" for path, count in paths.items())
            get_root_logger().info(f"Precision {name}: float layers {ends}, gradients of binary ones {layers}: {ways}.")

    def setup_optimizers(self) -> None:
        """Makes ``train.optim_g``; with weight decay, biases, scales and shifts are left out of it."""
        options = dict(self.opt["train"]["optim_g"])
        decay = options.pop("weight_decay", 0)
        params: Any = [parameter for parameter in self.bare_net.parameters() if parameter.requires_grad]
        if decay:
            params = parameter_groups(self.bare_net, decay)
        self.optimizer_g = make_optimizer(options.pop("type"), params, **options)
        self.optimizers.append(self.optimizer_g)

    def setup_schedulers(self) -> None:
        """Makes ``train.scheduler``."""
        options = dict(self.opt["train"]["scheduler"])
        kind = options.pop("type")
        self.schedulers += [make_scheduler(kind, each, self.total_iter, **options) for each in self.optimizers]

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration."""
        self.extra_log = {}
        for hook in self.hooks:
            hook.before_iter(self, current_iter)
        self.optimizer_g.zero_grad()
        with ExitStack() as contexts:
            if self._ends_in_bf16:
                contexts.enter_context(torch.autocast(self.device.type, dtype=torch.bfloat16))
            for hook in self.hooks:
                contexts.enter_context(hook.forward_context())
            output = self.net_g(self.lq)
        self.output = output.float()
        self.losses = self._losses(current_iter)
        self.loss = torch.stack(list(self.losses.values())).sum()
        self.loss.backward()
        for hook in self.hooks:
            hook.after_backward(self, current_iter)
        self.optimizer_g.step()
        for hook in self.hooks:
            hook.after_step(self, current_iter)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        detached = OrderedDict((name, loss.detach()) for name, loss in self.losses.items())
        self.log_dict = {**self.reduce_loss_dict(detached), **self.extra_log}

    def _losses(self, current_iter: int) -> OrderedDict[str, Tensor]:
        losses: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(self.output, self.gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(self.output, self.gt)
            losses.update({k: v for k, v in (("l_percep", perceptual), ("l_style", style)) if v is not None})
        for hook in self.hooks:
            losses.update(hook.extra_losses(self, current_iter))
        return losses

    def validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False) -> None:
        """Validates; during training once for each data set and iteration, and apart from training's random numbers."""
        if not self.is_train:
            super().validation(dataloader, current_iter, tb_logger, save_img)
            return
        current_iter = min(current_iter, self.total_iter)
        dataset = dataloader.dataset.opt["name"]
        if (dataset, current_iter) in self._validated:
            get_root_logger().info(f"Validation {dataset} at iteration {current_iter:,}: as above.")
            return
        done = False
        try:
            for hook in self.hooks:
                hook.before_val(self, current_iter)
            with isolated_rng():
                super().validation(dataloader, current_iter, tb_logger, save_img)
            self._validated.add((dataset, current_iter))
            done = True
        finally:
            self._val_done += 1
            if self._pending is not None and (not done or self._val_done >= self._val_sets):
                self.write_checkpoint(*self._pending)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """SRModel's validation; then the figures go to ``validation.jsonl`` and to the hooks."""
        super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        if not self.opt["val"].get("metrics"):
            return
        dataset = dataloader.dataset.opt["name"]
        metrics = {name: float(value) for name, value in self.metric_results.items()}
        folder = self.opt["path"]["log"]
        entry = {"iter": current_iter, "dataset": dataset, **metrics}
        write_validations(folder, [*read_validations(folder), entry])
        if self.is_train:
            for hook in self.hooks:
                hook.after_val(self, current_iter, dataset, metrics)

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Loads weights.

        Raises:
            LMBError: If the file is no checkpoint, or one of another architecture.
        """
        own = self.opt["path"].get("param_key_g", "params")
        if param_key == "params_ema" and own not in ("params", "params_ema"):
            param_key = own  # BasicSR asks for the average's entry; a file that has entries of other names has none
        key = load_weights(self.get_bare_model(net), Path(load_path), param_key=param_key, strict=strict)
        what = {
            "params_ema": "the moving average, as in validation; path.param_key_g: params takes the plain ones",
            "params": "the plain ones",
        }
        kind = type(self.get_bare_model(net)).__name__
        get_root_logger().info(f"Loaded {kind} from {load_path}: weights {key} ({what.get(str(key), 'as they are')}).")

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes a checkpoint, at once or after the validation that is due; -1 is the end of the training."""
        if current_iter == -1:
            self.before_save(-1)
            self.save_networks("latest")
            for hook in self.hooks:
                hook.after_train(self)
            return
        validation = self.opt.get("val")
        if validation is not None and self._val_sets and current_iter % validation["val_freq"] == 0:
            self._pending, self._val_done = (epoch, current_iter), 0
        else:
            self.write_checkpoint(epoch, current_iter)

    def before_save(self, it: int) -> None:
        """Asks every hook before networks are saved.

        Raises:
            LMBError: If one refuses.
        """
        for hook in self.hooks:
            hook.before_save(self, it)

    def save_networks(self, tag: str) -> None:
        """Saves ``net_g_<tag>.pth`` with the entries ``params`` and, with a moving average, ``params_ema``."""
        averaged = hasattr(self, "net_g_ema")
        nets = [self.net_g, self.net_g_ema] if averaged else [self.net_g]
        self.save_network(nets, "net_g", tag, ["params", "params_ema"][: len(nets)])

    def save_network(
        self, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = "params"
    ) -> None:
        """BasicSR's, but the file is complete or absent.

        Raises:
            LMBError: If it cannot be written.
        """
        if self.opt["rank"] != 0:
            return
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        weights = {}
        for key, each in zip(keys, nets, strict=True):
            state = weights[key] = self.get_bare_model(each).state_dict()
            for name, value in state.items():  # in place, for the state dict knows its modules' versions
                state[name] = value.cpu()
        tag = "latest" if current_iter == -1 else current_iter
        save_atomically(weights, Path(self.opt["path"]["models"]) / f"{net_label}_{tag}.pth")

    def write_checkpoint(self, epoch: int, current_iter: int) -> None:
        """Writes a checkpoint at once; called by all processes.

        Raises:
            LMBError: If it cannot be written; names the last good one.
        """
        self._pending = None
        self.before_save(current_iter)
        generators = self._all_generators()
        if self.opt["rank"] != 0:
            return
        path = Path(self.opt["path"]["training_states"]) / f"{current_iter}.state"
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "seed": self.opt["manual_seed"],
            "lmb": {
                "rng": generators,
                "hooks": [[type(hook).__name__, hook.state_dict()] for hook in self.hooks],
                "best": self._best(),
                "made_by": made_by(self.opt),
            },
        }
        try:
            path.unlink(missing_ok=True)
            self.save_networks(str(current_iter))
            save_atomically(state, path)
        except (LMBError, OSError) as error:
            kept = (
                f"The last good one is {self.last_checkpoint}." if self.last_checkpoint else "There is no earlier one."
            )
            raise LMBError(f"iteration {current_iter:,}: no checkpoint: {error} {kept}") from error
        self.last_checkpoint = path

    def _best(self) -> dict[str, Any]:
        results = getattr(self, "best_metric_results", {})
        return {
            dataset: {name: {**record, "val": float(record["val"])} for name, record in records.items()}
            for dataset, records in results.items()
        }

    def _all_generators(self) -> list[dict[str, Any]]:
        """The random number generators of every process."""
        own = get_rng_state()
        if not self.opt["dist"]:
            return [own]
        states: list[Any] = [None] * self.opt["world_size"]
        torch.distributed.all_gather_object(states, own)
        return states

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restores all that :meth:`save` kept.

        Raises:
            LMBError: If the state belongs to another network or optimiser.
        """
        place, iteration = self.opt["path"]["resume_state"], resume_state["iter"]
        for scheduler in resume_state["schedulers"]:
            for key in ("periods", "cumulative_period"):  # total_iter may have grown: those of the option file hold
                scheduler.pop(key, None)
        try:
            super().resume_training(resume_state)
        except (AssertionError, ValueError, KeyError) as error:
            raise LMBError(f"{place}: does not fit network_g, train.optim_g or train.scheduler: {error}") from error
        self.last_checkpoint = Path(place)
        folder = self.opt["path"]["log"]
        if self.opt["rank"] == 0:
            kept = [entry for entry in read_validations(folder) if entry["iter"] <= iteration]
            write_validations(folder, kept)
            self._validated = {(entry["dataset"], entry["iter"]) for entry in kept}
        own = resume_state.get("lmb")
        logger = get_root_logger()
        if own is None:
            logger.warning(f"{place}: not written by LMBModel: hooks, best figures and random numbers start anew.")
            return
        if own["best"]:
            self.best_metric_results = own["best"]
        self._resume_hooks(own["hooks"])
        if len(own["rng"]) == self.opt["world_size"]:
            set_rng_state(own["rng"][self.opt["rank"]])
        else:
            logger.warning(f"{place}: written by {len(own['rng'])} processes: random numbers start anew.")
        logger.info(f"Resumed from {place} and {network_of(Path(place)).name}.")

    def _resume_hooks(self, states: list[Any]) -> None:
        names = [type(hook).__name__ for hook in self.hooks]
        if [name for name, _ in states] != names:
            was = ", ".join(name for name, _ in states)
            get_root_logger().warning(f"train.hooks were {was}, are {', '.join(names)}: their memories start anew.")
            return
        for hook, (_, state) in zip(self.hooks, states, strict=True):
            hook.load_state_dict(state)
