# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/doctor: what it says about the kernels."""

from lmb_quant import doctor
from lmb_quant.ops import _library, active_kernel


def test_doctor_shows_the_active_kernel():
    assert ("packed layers run by", active_kernel()) in doctor.examine().facts


def test_doctor_says_what_to_do_without_the_library(monkeypatch):
    monkeypatch.setattr(_library, "find", _library.find.__wrapped__)  # not the remembered answer
    monkeypatch.setattr(_library, "_candidates", lambda: [])
    problems: list[str] = []
    assert doctor._kernel(problems).startswith("PyTorch reference")
    assert "install again with a C++ compiler" in problems[0]
    monkeypatch.setenv("LMB_QUANT_KERNELS", "require")
    assert doctor._kernel(problems) == "not usable"
    assert "LMB_QUANT_KERNELS=require" in problems[1]
