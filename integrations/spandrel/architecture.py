# SPDX-License-Identifier: Apache-2.0
"""Packed networks and training forms as one of spandrel's architectures."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from lmb_quant.archs import architecture_of
from lmb_quant.errors import LMBError, UnknownArchitectureError
from lmb_quant.modules import PackedBinaryConv2d
from lmb_quant.rewrite import recipe_of
from lmb_quant.upscaling import Upscaler

from ._host import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling, StateDict
from .described import HEADER, network_of
from .networks import float_network_of

ID = "lmb-quant"


class LMBArchitecture(Architecture[nn.Module]):
    """Any network whose state dict has a header; packed ones run by the engine on the CPU."""

    def __init__(self) -> None:
        super().__init__(id=ID, name="LMB (1-bit)", detect=lambda state: HEADER in state)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[nn.Module]:
        """Makes the network.

        Raises:
            LMBError: If the state dict is damaged, or its network does not upscale by a whole factor.
        """
        try:
            model = network_of(state_dict)
        except UnknownArchitectureError:
            model = network_of(state_dict, float_network_of(state_dict))
        run = _Run(model)
        traits = run.upscaler.traits
        return ImageModelDescriptor(
            model,
            model.state_dict(),
            architecture=self,
            purpose="SR" if traits.upscale > 1 else "Restoration",
            tags=_tags(model),
            supports_half=False,
            supports_bfloat16=False,
            scale=traits.upscale,
            input_channels=traits.channels,
            output_channels=traits.channels,
            tiling=ModelTiling.DISCOURAGED if traits.sees_all else ModelTiling.SUPPORTED,
            call_fn=run,
        )


class _Run:
    """Calls a network by :class:`Upscaler`, which keeps its tensors: where they move, it is made again."""

    def __init__(self, model: nn.Module) -> None:
        self.upscaler, self.device = Upscaler(model), _device_of(model)

    def __call__(self, model: nn.Module, image: Tensor) -> Tensor:
        if _device_of(model) != self.device:
            self.upscaler, self.device = Upscaler(model), _device_of(model)
        return self.upscaler(image)


def register() -> None:
    """Adds our architecture to spandrel's, before all that look at names of tensors only; again without harm.

    Raises:
        LMBError: If the name is taken by another's.
    """
    known = MAIN_REGISTRY.get(ID)
    if known is not None:
        if type(known.architecture).__name__ != LMBArchitecture.__name__:
            raise LMBError(f"spandrel has an architecture {ID!r} already: {known.architecture!r}.")
        return
    first = MAIN_REGISTRY.architectures("detection")[0].architecture.id
    MAIN_REGISTRY.add(ArchSupport.from_architecture(LMBArchitecture(), before=(first,)))


def _tags(model: nn.Module) -> list[str]:
    arch, recipe = architecture_of(model), recipe_of(model)
    packed = any(isinstance(module, PackedBinaryConv2d) for module in model.modules())
    arguments = getattr(model, "arch_args", {})
    tags = ["1-bit", "packed" if packed else "training form"]
    if arch is not None:
        tags += [arch.name, f"{arguments['num_feat']}nf", f"{arguments[arch.count]}nb"]
    if recipe is not None and recipe.metadata.name:
        tags.append(recipe.metadata.name)
    return tags


def _device_of(model: nn.Module) -> torch.device:
    return next(chain(model.parameters(), model.buffers())).device
