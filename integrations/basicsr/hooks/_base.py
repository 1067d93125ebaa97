# SPDX-License-Identifier: Apache-2.0
"""What a trainer hook is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from lmb_quant.integrations.basicsr.model import LMBModel


class Hook:
    """Base of trainer hooks; every method may be left out.

    A hook is named in an option file under ``train: hooks:``; its keyword-only constructor arguments are its options.
    Iterations count from 1. What a hook remembers from one iteration to the next belongs into its state, or a resumed
    run differs from an unbroken one.
    """

    def check(self, opt: dict[str, Any], net: nn.Module, image: Tensor | None) -> None:
        """Raises LMBError if the option file or the network does not fit the hook; called before anything is created.

        Args:
            opt: The options.
            net: The network as it will be trained, on the CPU and in training mode; it is thrown away.
            image: What its input will look like, of random values; None where the data set is not known.
        """

    def before_train(self, model: LMBModel) -> None:
        """Called once, after networks, losses and optimisers are made and before a state is resumed."""

    def before_iter(self, model: LMBModel, it: int) -> None:
        """Called with the batch in ``model.lq`` and ``model.gt``, before the forward pass."""

    def forward_context(self) -> AbstractContextManager[Any]:
        """The context in which the forward pass of training runs."""
        return nullcontext()

    def extra_losses(self, model: LMBModel, it: int) -> dict[str, Tensor]:
        """Scalar losses to add, by a name that begins with ``l_``; the output is ``model.output``."""
        return {}

    def after_backward(self, model: LMBModel, it: int) -> None:
        """Called with the gradients in place, before the optimiser's step; the total loss is ``model.loss``."""

    def after_step(self, model: LMBModel, it: int) -> None:
        """Called after the optimiser's step and before the moving average; values for the log: ``model.extra_log``."""

    def before_save(self, model: LMBModel, it: int) -> None:
        """Called before a network is written; ``it`` is -1 for the last one."""

    def before_val(self, model: LMBModel, it: int) -> None:
        """Called before each validation set."""

    def after_val(self, model: LMBModel, it: int, dataset: str, metrics: dict[str, float]) -> None:
        """Called after each validation set, on the first process only."""

    def after_train(self, model: LMBModel) -> None:
        """Called once, when the last checkpoint has been written."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
