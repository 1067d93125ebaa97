# SPDX-License-Identifier: Apache-2.0
"""How ``lmb_quant.save`` and ``load`` store torchao's int8 weights; docs/bit_layout.md is the specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lmb_quant.errors import LMBError
from lmb_quant.packed_file import Part, TensorCodec, register_codec
from lmb_quant.strict_data import validate

from ._host import IntxUnpackedToInt8Tensor, IntxUnpackedToInt8TensorActivationQuantization

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class _Words(BaseModel):
    """What torchao calls the attributes of the tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    target_dtype: Literal["int1", "int2", "int3", "int4", "int5", "int6", "int7", "int8"]
    block_size: list[Annotated[int, Field(ge=1)]]
    dtype: Literal["float32", "float16", "bfloat16"]
    activation_quantization: Literal["int8_asym_per_token"] | None


class IntxCodec(TensorCodec):
    """Stores ``IntxUnpackedToInt8Tensor``, the weight that ``IntxWeightOnlyConfig`` makes: one int8 a value."""

    name = "torchao.IntxUnpackedToInt8Tensor"

    def stores(self, tensor: Tensor) -> bool:
        """Whether it is that class itself."""
        return type(tensor) is IntxUnpackedToInt8Tensor

    def split(self, tensor: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Parts as torchao names them: ``qdata`` (int8); ``scale`` and ``zero_point``, one for each block of values."""
        words = {
            "target_dtype": _word(tensor.target_dtype),
            "block_size": list(tensor.block_size),
            "dtype": _word(tensor.dtype),
            "activation_quantization": tensor.activation_quantization and tensor.activation_quantization.value,
        }
        return {name: getattr(tensor, name) for name in ("qdata", "scale", "zero_point")}, words

    def parts(self, words: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Part]:
        """As :meth:`TensorCodec.parts`."""
        blocks = validate(_Words, words, self.name).block_size
        if len(blocks) != len(shape) or any(size % block for size, block in zip(shape, blocks, strict=True)):
            raise LMBError(
                f"{self.name}: block_size: {blocks!r} is not allowed. Allowed: a divisor of each of {shape}."
            )
        counts = tuple(size // block for size, block in zip(shape, blocks, strict=True))
        return {
            "qdata": Part(shape, (torch.int8,)),
            "scale": Part(counts, _FLOATS),
            "zero_point": Part(counts, (torch.int8, *_FLOATS)),
        }

    def join(self, parts: Mapping[str, Tensor], words: Mapping[str, Any]) -> Tensor:
        """The tensor; a convolution's is channels-last, as the packed layers beside it."""
        checked = validate(_Words, words, self.name)
        half = 1 << (int(checked.target_dtype.removeprefix("int")) - 1)
        qdata = parts["qdata"]
        if qdata.numel() and not -half <= int(qdata.min()) <= int(qdata.max()) < half:
            raise LMBError(f"{self.name}: qdata has values that are no {checked.target_dtype}.")
        if qdata.ndim == 4:
            qdata = qdata.contiguous(memory_format=torch.channels_last)
        quantization = checked.activation_quantization
        return IntxUnpackedToInt8Tensor(
            qdata,
            parts["scale"],
            parts["zero_point"],
            getattr(torch, checked.target_dtype),
            tuple(checked.block_size),
            getattr(torch, checked.dtype),
            None if quantization is None else IntxUnpackedToInt8TensorActivationQuantization(quantization),
        )


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


register_codec(IntxCodec())
