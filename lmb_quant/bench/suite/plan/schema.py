# SPDX-License-Identifier: Apache-2.0
"""Suites: typed, strict data that says which networks, methods and images are compared, and under which training."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from lmb_quant.errors import LMBError, unknown_name
from lmb_quant.recipe import ActivationOverride, UnitOverride, WeightOverride
from lmb_quant.strict_data import validate
from lmb_quant.strict_yaml import find_text, parse_mapping

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Count = Annotated[int, Field(ge=1)]
_Seed = Annotated[int, Field(ge=0)]
_Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]+$")]
_Rates = dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)]]

BICUBIC, FLOAT = "bicubic", "float"
"""Methods that are neither a recipe nor a host's scheme."""
ALL, HOST_SCHEMES = "all", "hosts"
"""Words for every method there is, and for every scheme of the hosts."""


class Network(BaseModel):
    """An architecture that BasicSR can name, without its SR factor and recipe, and the methods it is compared under.

    ``arch`` is what stands in ``network_g``: ``type`` and arguments. ``methods`` and ``seeds`` replace the suite's for
    this network; ``rates`` go before the suite's.
    """

    model_config = _STRICT
    arch: dict[str, Any]
    methods: list[str | dict[str, Any]] | None = None
    seeds: Annotated[list[_Seed], Field(min_length=1)] | None = None
    rates: _Rates = {}


class MethodChoice(BaseModel):
    """A recipe under a name of its own.

    ``recipe`` is what :meth:`Recipe.load` takes (a relative path counts from the suite's file); ``activation``,
    ``weight`` and ``unit`` replace keys of its scheme, as a recipe's overrides do. ``hooks`` are trainer hooks that
    belong to the method, added to the training's. Of the seeds, only those in ``seeds`` are used, if that is given.
    ``arithmetic`` is that of the packed network's real convolutions; with ``int8`` it shares the training and the rate
    of the same recipe in float32.
    """

    model_config = _STRICT
    name: _Label
    recipe: str | dict[str, Any]
    activation: ActivationOverride | None = None
    weight: WeightOverride | None = None
    unit: UnitOverride | None = None
    hooks: list[dict[str, Any]] = []
    seeds: Annotated[list[_Seed], Field(min_length=1)] | None = None
    arithmetic: Literal["float32", "int8"] = "float32"


class Data(BaseModel):
    """Image sets by their folders' names: ``DIR/train/<name>`` and ``DIR/test/<name>`` of ``--data DIR``.

    ``source: photographs`` makes such a folder from photographs that scikit-image ships, where ``--data`` is not given.
    ``validate`` is the test set of the training curve; by default the first.
    """

    model_config = _STRICT
    source: Literal["photographs"] | None = None
    train: Annotated[list[str], Field(min_length=1)]
    test: Annotated[list[str], Field(min_length=1)]
    validation: str | None = Field(default=None, alias="validate")

    @property
    def curve_set(self) -> str:
        """Name of the test set of the training curve."""
        return self.validation or self.test[0]

    @model_validator(mode="after")
    def _validates_on_a_test_set(self) -> Self:
        if self.validation is not None and self.validation not in self.test:
            raise ValueError(unknown_name("test set", self.validation, self.test))
        return self


class Training(BaseModel):
    """What every cell is given alike.

    ``patch`` is the side of an LR patch in pixels. ``optimizer``, ``scheduler``, ``loss`` and ``hooks`` are written as
    in a BasicSR option file (``optim_g``, ``scheduler``, ``pixel_opt``, ``hooks``). ``validate_every`` and
    ``checkpoint_every`` count steps; ``workers`` are processes that load images.
    """

    model_config = _STRICT
    steps: _Count
    batch: _Count
    patch: Annotated[int, Field(ge=1, le=1024)]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    loss: dict[str, Any] = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    ema_decay: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.0
    hooks: list[dict[str, Any]] = []
    validate_every: _Count
    checkpoint_every: _Count
    workers: Annotated[int, Field(ge=0)] = 0


class Suite(BaseModel):
    """A benchmark: a cell for each network, method, SR factor and seed.

    ``rates`` are learning rates of single methods, by their names; the others have the optimiser's. What hosts make of
    the float network has the rate of ``float``.
    ``threads`` is the CPU threads of a cell; ``latency`` says whether a run ends with measuring latency, one thread.
    """

    model_config = _STRICT
    version: Annotated[int, Field(ge=1, le=1)]
    name: _Label
    description: str = ""
    networks: Annotated[dict[_Label, Network], Field(min_length=1)]
    methods: Annotated[list[str | dict[str, Any]] | str, Field(min_length=1)]
    upscale: Annotated[list[_Count], Field(min_length=1)]
    seeds: Annotated[list[_Seed], Field(min_length=1)]
    data: Data
    training: Training
    rates: _Rates = {}
    threads: _Count = 1
    latency: bool = True
    _place: str = PrivateAttr(default="suite")

    @property
    def place(self) -> str:
        """Where the suite was read, for error messages: a path, or its name."""
        return self._place

    @classmethod
    def load(cls, source: str | Path) -> Suite:
        """Reads a suite.

        Args:
            source: Name of a shipped suite (``"quick"``), or path of a YAML file.

        Raises:
            LMBError: If there is no such suite or file, or its content is not a suite; names place, value and what is
                allowed.
        """
        text, place = find_text(source, "suite", files("lmb_quant.bench").joinpath("suites"))
        suite = validate(cls, parse_mapping(text, place, "a suite"), place)
        suite._place = place
        for key in ("upscale", "seeds"):
            values = getattr(suite, key)
            _check_distinct(values, f"{place}: {key}")
        for label, network in suite.networks.items():
            _check_distinct(network.seeds or [], f"{place}: networks.{label}.seeds")
        return suite


def _check_distinct(values: list[int], where: str) -> None:
    if len(set(values)) < len(values):
        raise LMBError(f"{where}: {values!r} is not allowed. Each may stand there once.")
