# SPDX-License-Identifier: Apache-2.0
"""recipes/*.yaml: every method over-fits a few patches, and its packed form equals its training form."""

import pytest
import torch
from torch.nn import functional as F

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBSRResNet
from lmb_quant.binarizers import set_progress
from lmb_quant.modules import binary_convs
from lmb_quant.recipe import recipe_names

STEPS = 80
NO_PACKED_FORM = {
    "abcnet": "activation binarizer 'abcnet'",
    "adabin": "activation binarizer 'adabin'",
    "bam": "activation binarizer 'bam'",
    "design": "activation binarizer 'design'",
    "dorefa": "activation binarizer 'dorefa'",
    "ebsr": "rescaler 'ebsr'",
    "lab": "activation binarizer 'lab'",
    "scales": "activation binarizer 'scales'",
    "xnor": "rescaler 'input_mean'",
}
"""Recipe -> what stands in the way; recipes that are not of this list must pack, or say so in their own tests."""


def over_fitted(name):
    """A small network trained on two patches, its losses, and the signs of its binary weights at the start."""
    net = LMBSRResNet(num_feat=8, num_block=2, upscale=2, recipe=name)
    before = [conv.weight.detach().sign() for conv in binary_convs(net)]
    target = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    x, losses = F.avg_pool2d(target, 2), []
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(STEPS):
        set_progress(net, step / STEPS)
        loss = (net(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses, before


@pytest.mark.parametrize("name", recipe_names())
def test_over_fits_and_packs(name):
    net, losses, before = over_fitted(name)
    assert losses[-1] < 0.6 * losses[0], f"{losses[0]:.4f} -> {losses[-1]:.4f}"
    after = [conv.weight.detach().sign() for conv in binary_convs(net)]
    assert all(bool((a != b).any()) for a, b in zip(after, before, strict=True)), "a layer's weights stay as they were"
    net.eval()
    if name in NO_PACKED_FORM:
        with pytest.raises(LMBError, match=NO_PACKED_FORM[name]):
            lmb.convert(net)
        return
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        expected, actual = net(x), lmb.convert(net)(x)
    # A value within rounding of its threshold may fall to the other side behind a float layer: few pixels, if any.
    assert ((actual - expected).abs() > 1e-4 * expected.abs().max()).double().mean() < 0.02
