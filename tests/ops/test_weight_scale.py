# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/ops/weight_scale: each scale against NumPy."""

import numpy as np
import pytest
import torch
from helpers import assert_close

from lmb_quant import LMBError
from lmb_quant.ops import WEIGHT_SCALES, check_weight_scale, weight_scale

EXPECTED = {
    "channel_mean": lambda w: np.abs(w).mean(axis=(1, 2, 3)),
    "layer_mean": lambda w: np.full(len(w), np.abs(w).mean()),
    "one": lambda w: np.ones(len(w)),
}


def test_every_scale_is_tested():
    assert set(EXPECTED) == set(WEIGHT_SCALES)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (5, 3, 3, 3), (64, 65, 1, 3)], ids=str)
def test_scale(name, size, dtype):
    weight = torch.randn(size).to(dtype).requires_grad_()
    alpha = weight_scale(weight, name)
    assert alpha.shape == (size[0],)
    assert alpha.dtype == dtype
    assert not alpha.requires_grad
    tolerance = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}[dtype]
    assert_close(alpha, EXPECTED[name](weight.detach().double().numpy()), tolerance)


def test_unknown_scale_names_the_nearest():
    with pytest.raises(LMBError, match=r"unknown weight scale 'chanel_mean'\. Did you mean 'channel_mean'\?"):
        check_weight_scale("chanel_mean")
    with pytest.raises(LMBError, match="unknown weight scale"):
        weight_scale(torch.ones(1, 1, 1, 1), "none")
