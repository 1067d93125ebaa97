# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/doctor: what it says about the kernels, and about optional packages that are missing or broken."""

import sys
from importlib import import_module

import pytest
import torch

from lmb_quant import doctor
from lmb_quant.ops import _library, active_kernel


def test_doctor_shows_the_active_kernel():
    assert ("packed layers run by", active_kernel()) in doctor.examine().facts


def test_doctor_says_what_to_do_without_the_library(monkeypatch):
    monkeypatch.setattr(_library, "find", _library.find.__wrapped__)  # not the remembered answer
    monkeypatch.setattr(_library, "shared_libraries", lambda: [])
    problems: list[str] = []
    assert doctor._kernel(problems).startswith("PyTorch reference")
    assert "install again with a C++ compiler" in problems[0]
    monkeypatch.setenv("LMB_QUANT_KERNELS", "require")
    assert doctor._kernel(problems) == "not usable"
    assert "LMB_QUANT_KERNELS=require" in problems[1]


@pytest.fixture
def no_hosts(monkeypatch):
    """Only what a test asks for is imported, which takes seconds otherwise."""
    replies = {}

    def reply(name):
        if name in replies and isinstance(replies[name], Exception):
            raise replies[name]
        return sys.modules["math"]

    monkeypatch.setattr(doctor.importlib, "import_module", reply)
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package not in replies.get("missing", ()))
    return replies


def test_what_is_optional_and_not_installed_is_a_note(no_hosts):
    no_hosts["missing"] = ("timm", "onnxscript")
    report = doctor.examine()
    assert report.problems == ()
    assert [note.partition(":")[0] for note in report.notes] == ["timm integration", "ONNX export"]
    assert "onnxscript not installed. To use it: pip install 'lmb-quant[onnx]'" in report.notes[1]
    assert ("timm integration", "not installed") in report.facts
    assert "note: timm integration" in str(report)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        ("lmb_quant.integrations.basicsr", RuntimeError("operator x::nms does not exist"), "RuntimeError: operator x"),
        ("lmb_quant.integrations.torchao", AttributeError("no attribute 'a'\nmore"), "no attribute 'a'. To install"),
        ("lmb_quant.integrations.timm", OSError("libcudart.so: cannot open"), "OSError: libcudart.so"),
        ("onnx", TypeError("Descriptors cannot be created directly."), "ONNX export: TypeError: Descriptors"),
        ("onnxscript", ImportError("cannot import name 'x'"), r"pip install 'lmb-quant[onnx]'"),
        ("onnx", SystemError(), "SystemError: without a reason"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_installed_and_broken_is_a_problem(no_hosts, module, error, message):
    no_hosts[module] = error
    report = doctor.examine()
    assert len(report.problems) == 1
    assert message in report.problems[0]
    assert report.notes == ()


def test_what_is_installed_is_seen_without_importing_it(monkeypatch):
    assert doctor._is_installed("torchao")
    assert not doctor._is_installed("a_package_that_is_not_there")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert not doctor._is_installed("timm")
    monkeypatch.setitem(sys.modules, "broken", import_module("math"))
    monkeypatch.setattr(sys.modules["broken"], "__spec__", None)
    assert doctor._is_installed("broken")


def test_a_gpu_that_does_not_answer_is_a_problem(no_hosts, monkeypatch):
    def fail(index):
        raise RuntimeError("CUDA unknown error")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    report = doctor.examine()
    assert ("GPU", "not usable") in report.facts
    assert "CUDA unknown error" in report.problems[0]
