# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/ops/weight_scale: each scale against NumPy."""

import numpy as np
import pytest
import torch
from helpers import assert_close

from lmb_quant import LMBError
from lmb_quant.ops import WEIGHT_SCALES, check_weight_scale, register_weight_scale, weight_scale


def bit_shift(w):
    """IR-Net, arXiv 1909.10788, section 3.2: 2^round(log2 mean|w_hat|), w_hat = (w - mean) / std, n - 1 in std."""
    n = max(w[0].size - 1, 1)
    centred = w - w.mean(axis=(1, 2, 3), keepdims=True)
    std = np.sqrt((centred**2).sum(axis=(1, 2, 3), keepdims=True) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.nan_to_num(np.abs(centred / std)).mean(axis=(1, 2, 3))
        return np.exp2(np.round(np.log2(magnitude)))


EXPECTED = {
    "bit_shift": bit_shift,
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


def test_bit_shift_by_hand():
    """Filter (-1, 0, 0, 1): std sqrt(2/3), mean|w_hat| = sqrt(3/2)/2 = 0.612, log2 -0.71, so 1/2; equal weights: 0."""
    weight = torch.tensor([[-1.0, 0.0, 0.0, 1.0], [0.3, 0.3, 0.3, 0.3], [-2.0, -2.0, 6.0, 6.0]]).view(3, 4, 1, 1)
    assert weight_scale(weight, "bit_shift").tolist() == [0.5, 0.0, 1.0]  # +-sqrt(3)/2 = 0.87: log2 -0.21


def test_taken_names_are_refused():
    with pytest.raises(LMBError, match=r"weight scale name 'one' is already taken by _one"):
        register_weight_scale("one")(lambda weight: weight[:, 0, 0, 0])
