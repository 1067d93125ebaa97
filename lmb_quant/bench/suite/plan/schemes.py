# SPDX-License-Identifier: Apache-2.0
"""Schemes of the hosts, this project's engine among them, by name; no host need be installed."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict

from .code import integration_digest, minor_version

BF16, QAT, ENGINE_INT8 = "bf16", "int8-qat", "engine-int8"
_STATIC = ("int8-pt2e", "int8-pt2e-ends-float")
WEIGHT_BITS = {
    "int8-weight": 8,
    "int4-weight": 4,
    "int2-weight": 2,
    "int1-weight": 1,
    "int8-dynamic": 8,
    "int4-packed": 4,
}
HOSTS = (BF16, *_STATIC, QAT, *WEIGHT_BITS, ENGINE_INT8)
"""Names of the methods; docs/benchmark.md says what each is."""

CALIBRATION_IMAGES, CALIBRATION_SIDE = 32, 48
"""How many training images give a patch for calibration, and the patches' side in LR pixels, at most."""


class HostSettings(BaseModel):
    """What beside the float network decides a host's form of it; part of a cell's key.

    ``activation_bits`` is None where activations stay float; ``calibration`` is the number of patches and their side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    scheme: str
    activation_bits: int | None = None
    calibration: tuple[int, int] | None = None
    torchao: str | None = None
    code: str | None = None


def host_settings(scheme: str) -> HostSettings:
    """The settings of a scheme on this machine; int8 activations have 7 bits where the CPU has no VNNI."""
    if scheme in (BF16, ENGINE_INT8):
        return HostSettings(scheme=scheme)
    version = minor_version("torchao")
    if scheme in WEIGHT_BITS:
        return HostSettings(scheme=scheme, torchao=version, code=integration_digest("torchao/weight_only.py"))
    bits = 8 if torch.cpu._is_vnni_supported() else 7
    calibration = (CALIBRATION_IMAGES, CALIBRATION_SIDE) if scheme in _STATIC else None
    code = integration_digest("torchao/int8.py")
    return HostSettings(scheme=scheme, activation_bits=bits, calibration=calibration, torchao=version, code=code)
