# SPDX-License-Identifier: Apache-2.0
"""What is timed in the browser: packed networks, their float twins, and a small rival in float and int8."""

from __future__ import annotations

import contextlib
import importlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmb_quant.archs import ARCHITECTURES
from lmb_quant.bench.networks import make_image
from lmb_quant.errors import LMBError, reason
from lmb_quant.serialize import from_pretrained
from lmb_quant.upscaling import upscale
from lmb_quant.zoo import card_text, network_file, parse_card

RIVAL = "ecbsr-m4c16"
_RIVAL = {
    "type": "ECBSR", "num_in_ch": 3, "num_out_ch": 3, "num_block": 4, "num_channel": 16, "with_idt": False,
    "act_type": "prelu", "scale": 4,
}  # fmt: skip
PACKED, FLOAT, INT8 = "packed", "float", "int8"
_LEAST_SQNR = {PACKED: 40.0, FLOAT: 60.0, INT8: 20.0}
"""dB against the definition: bits may turn at thresholds; another order of additions; 8 bits."""

_OPSET = 20
_CALIBRATION = 4  # images


@dataclass(frozen=True)
class Form:
    """A network in one form.

    ``file`` is a packed file where ``form`` is ``packed``, else an ONNX file. ``expected`` is the result by definition,
    float32 ``(H, W, 3)``, and ``least`` the SQNR, dB, that the browser's must have against it.
    """

    network: str
    form: str
    file: bytes
    expected: NDArray[np.float32]

    @property
    def least(self) -> float:
        """The SQNR that is asked for, dB."""
        return _LEAST_SQNR[self.form]


def check_packages() -> None:
    """Imports what makes ONNX files.

    Raises:
        LMBError: If something cannot be imported.
    """
    for package in ("onnx", "onnxscript", "onnxruntime.quantization"):
        try:
            importlib.import_module(package)
        except Exception as error:  # a broken installation raises anything
            raise LMBError(
                f"bench web makes ONNX files, and needs packages: {package}: {reason(error)}. To install them: "
                "pip install 'lmb-quant[onnx]' onnxruntime."
            ) from error


def make_pixels(size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture, ``(H, W, 3)``: smooth with some noise, as photographs are."""
    return _bytes_of(make_image(*size))


def make_forms(networks: Sequence[str], pixels: NDArray[np.uint8], tell: Callable[[str], None]) -> list[Form]:
    """Makes the zoo's networks packed, each with its float twin, then the rival in float and int8.

    A float twin is the same architecture with random weights: they do not decide how fast it is.

    Raises:
        LMBError: If a name is unknown, or BasicSR, which has the rival, is not installed.
    """
    from lmb_quant.integrations.basicsr.folding import folded  # the host is heavy and optional
    from lmb_quant.integrations.basicsr.networks import build

    image = torch.from_numpy(_values(pixels)).permute(2, 0, 1)[None]
    forms = []
    for name in networks:
        tell(f"{name}: the float twin becomes an ONNX file")
        card = parse_card(card_text(name), name)
        with network_file(name) as path:
            packed = path.read_bytes()
        expected = _values(upscale(from_pretrained(name), pixels))
        forms.append(Form(name, PACKED, packed, expected))
        with _same_weights():
            twin = ARCHITECTURES[card.arch].make(**card.arch_args, recipe=None)
            forms.append(_float_form(name, _made_random(twin), image))
    tell(f"{RIVAL}: it becomes an ONNX file, and is quantised")
    with _same_weights(), contextlib.redirect_stdout(io.StringIO()):  # BasicSR prints which architecture it finds
        rival = _float_form(RIVAL, folded(_made_random(build(dict(_RIVAL)))), image)
    forms += [rival, Form(RIVAL, INT8, _quantised(rival.file, image), rival.expected)]
    return forms


def _float_form(name: str, network: nn.Module, image: Tensor) -> Form:
    with torch.no_grad():
        expected = network(image)[0].permute(1, 2, 0).numpy()
    return Form(name, FLOAT, _onnx(network, image), expected)


def _made_random(network: nn.Module) -> nn.Module:
    *_, last = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    nn.init.normal_(last.weight, std=0.05)  # some start at zero: what the body computes would not reach the output
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def _same_weights() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _onnx(network: nn.Module, image: Tensor) -> bytes:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            network, (image,), dynamo=True, opset_version=_OPSET, input_names=["image"], output_names=["upscaled"],
            verbose=False,
        )  # fmt: skip
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def _quantised(model: bytes, image: Tensor) -> bytes:
    """Static int8 by ONNX Runtime's own quantiser: weights by output channel, activations calibrated."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            others = (make_image(*image.shape[2:]).contiguous() for _ in range(_CALIBRATION - 1))
            self.left = iter([image, *others])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            found = next(self.left, None)
            return None if found is None else {"image": found.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        quantize_static(
            str(source), str(target), Images(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return target.read_bytes()


def _bytes_of(image: Tensor) -> NDArray[np.uint8]:
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _values(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.divide(pixels, 255, dtype=np.float32)
