# SPDX-License-Identifier: Apache-2.0
"""Mirrors integrations/torchao/matching.py: `quantize_` that would change nothing says so."""

import pytest
import torch
from helpers import assert_same_state, binary, conv, small_net, state_of
from torch import nn
from torchao.quantization import FqnToConfig, IntxWeightOnlyConfig, quantize_

from lmb_quant import LMBError, convert
from lmb_quant.integrations.torchao import LMBConfig, conv_filter, is_binary, matching

NOTHING = r"quantize_: filter_fn matches no module of the network, so nothing would change"


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (LMBConfig(), {}, rf"LMBConfig: {NOTHING}.*conv_filter.*The network's Conv2d: 0, 2, 4, 6\.$"),
        (LMBConfig(), {"filter_fn": None}, NOTHING),
        (LMBConfig(), {"filter_fn": lambda module, fqn: fqn == "body"}, NOTHING),
        (LMBConfig(step="convert"), {"filter_fn": is_binary}, r"such as is_binary.*BinaryConv2d: none\."),
        (LMBConfig(step="prepare_for_loading"), {"filter_fn": is_binary}, NOTHING),
        (LMBConfig(), {"filter_fn": conv_filter(ignore=["6", "8"])}, r"ignore: '8' matches no layer. unknown layer"),
        (LMBConfig(), {"filter_fn": conv_filter(ignore=["re:head.*"])}, "matches no layer"),
        (LMBConfig(), {"filter_fn": conv_filter(ignore=["1"])}, "'1' matches no layer"),  # a ReLU
        (LMBConfig(), {"filter_fn": conv_filter(ignore=["*"])}, NOTHING),
        (FqnToConfig({"3": LMBConfig(), "8": LMBConfig()}), {"filter_fn": None}, "FqnToConfig: '8' matches no module"),
        (FqnToConfig({"re:body.*": LMBConfig()}), {"filter_fn": None}, r"'re:body\.\*' matches no module"),
        (FqnToConfig({"2": LMBConfig(), "8": None}), {"filter_fn": None}, "'8' matches no module"),
        (FqnToConfig({"_default": LMBConfig()}), {"filter_fn": None}, "'_default' is not allowed for LMBConfig"),
    ],
)
def test_nothing_to_change_is_an_error_and_changes_nothing(config, options, message):
    net = small_net()
    before = state_of(net)
    with pytest.raises(LMBError, match=message):
        quantize_(net, config, **options)
    assert_same_state(net, before)


def test_packing_twice_says_that_nothing_is_left():
    net = nn.Sequential(conv(3, 3))
    quantize_(net, LMBConfig(), filter_fn=conv_filter())
    packed = convert(net)
    with pytest.raises(LMBError, match=NOTHING):
        quantize_(packed, LMBConfig(step="convert"), filter_fn=is_binary)


def test_names_and_patterns_that_match_are_applied():
    net = small_net()
    quantize_(net, FqnToConfig({"2": LMBConfig(), "re:[46]": LMBConfig(), "_default": None}), filter_fn=None)
    assert binary(net) == ["2", "4", "6"]


def test_configs_of_torchao_do_what_they_did():
    net, intx = small_net(), IntxWeightOnlyConfig(weight_dtype=torch.int8)
    quantize_(net, intx)
    quantize_(net, FqnToConfig({"head": intx}), filter_fn=None)
    assert all(type(parameter) is nn.Parameter for parameter in net.parameters())
    quantize_(net, intx, filter_fn=lambda module, fqn: fqn == "0")
    assert type(net[0].weight) is not nn.Parameter


def test_the_functions_are_wrapped_once():
    walk = matching.quant_api._replace_with_custom_fn_if_matches_filter
    matching.install()
    assert matching.quant_api._replace_with_custom_fn_if_matches_filter is walk
