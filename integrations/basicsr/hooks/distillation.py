# SPDX-License-Identifier: Apache-2.0
"""Learns from a float teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.files import expanded
from lmb_quant.integrations._keywords import check_keywords
from lmb_quant.integrations.basicsr.archs import find_architecture
from lmb_quant.integrations.basicsr.checkpoint import load_weights

from basicsr.archs import build_network

from ._base import Hook
from ._values import names, not_negative

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class Distillation(Hook):
    """Adds the L1 distance to a teacher's output, and of inner features if wanted.

    The teacher's checkpoint is ``path: pretrain_network_teacher`` (``params_ema`` where it has them).

    Args:
        teacher: The teacher as ``network_g`` would name it: ``type`` and its arguments.
        weight: Weight of the distance between the outputs (loss ``l_distill``).
        features: Names of modules that both networks have and whose outputs are compared, each divided by the mean
            magnitude of the teacher's.
        feature_weight: Weight of the mean distance between the features (loss ``l_feature``).
    """

    def __init__(
        self,
        *,
        teacher: Mapping[str, Any],
        weight: float = 1.0,
        features: Sequence[str] = (),
        feature_weight: float = 1.0,
    ) -> None:
        if not isinstance(teacher, Mapping):
            raise LMBError(f"teacher: {teacher!r} is not allowed. Allowed: a mapping with 'type'.")
        options = dict(teacher)
        kind = options.pop("type", None)
        check_keywords("teacher", find_architecture(kind, "teacher"), options)
        self.options, self.weight = {"type": kind, **options}, not_negative("weight", weight)
        self.features = names("features", features, "modules")
        self.feature_weight = not_negative("feature_weight", feature_weight)
        self.net: nn.Module | None = None
        self._seen: dict[tuple[str, str], Tensor] = {}

    def check(self, opt: dict[str, Any], net: nn.Module, image: Tensor | None) -> None:
        """Raises LMBError if there is no checkpoint of the teacher, or outputs or features cannot be compared."""
        teacher = self._load_teacher(opt)
        self._watch(teacher, net)
        if image is None:
            return
        with torch.no_grad():
            ours, theirs = net(image), teacher(image)
        if ours.shape != theirs.shape:
            raise LMBError(
                f"teacher: its output {tuple(theirs.shape)} has not the student's shape {tuple(ours.shape)}."
            )
        if self.features:
            self._feature_loss()

    def before_train(self, model: LMBModel) -> None:
        """Builds the teacher and watches the features."""
        self.net = self._load_teacher(model.opt).to(model.device).requires_grad_(False)
        self._watch(self.net, model.bare_net)

    def _watch(self, teacher: nn.Module, student: nn.Module) -> None:
        for who, net in (("teacher", teacher), ("student", student)):
            modules = dict(net.named_modules())
            for name in self.features:
                if name not in modules:
                    raise LMBError(f"features: {unknown_name(f'module of the {who}', name, modules)}")
                modules[name].register_forward_hook(self._keep(who, name))

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Forgets what was seen before."""
        self._seen.clear()

    def extra_losses(self, model: LMBModel, it: int) -> dict[str, Tensor]:
        """``l_distill``, and ``l_feature`` if there are features."""
        assert self.net is not None
        with torch.no_grad():
            target = self.net(model.lq)
        losses = {"l_distill": self.weight * F.l1_loss(model.output, target)}
        if self.features:
            losses["l_feature"] = self.feature_weight * self._feature_loss()
        return losses

    def _feature_loss(self) -> Tensor:
        distances = []
        for name in self.features:
            ours, theirs = self._seen["student", name], self._seen["teacher", name]
            if ours.shape != theirs.shape:
                shapes = f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
                raise LMBError(f"features: {name!r} has shapes {shapes}; they must be equal.")
            distances.append(F.l1_loss(ours.float(), theirs.float()) / theirs.float().abs().mean().clamp_min(1e-6))
        return torch.stack(distances).mean()

    def _keep(self, who: str, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if who == "teacher" or module.training:
                self._seen[who, name] = output

        return hook

    def _load_teacher(self, opt: dict[str, Any]) -> nn.Module:
        path = opt["path"].get("pretrain_network_teacher")
        if path is None:
            raise LMBError("path: the key 'pretrain_network_teacher' is missing; Distillation needs it.")
        net: nn.Module = build_network(self.options)
        load_weights(net, expanded(path), param_key="params_ema")
        return net.eval()
