# SPDX-License-Identifier: Apache-2.0
"""Networks in one call of the engine give what they give module by module; which do, and that none is stale."""

import copy
import gc
import random
import threading

import pytest
import torch
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.archs import LMBVDSR, LMBHybridNet, LMBSRResNet
from lmb_quant.modules import packed_convs
from lmb_quant.ops._library import find
from lmb_quant.ops.network import EngineNetwork, StageArguments
from lmb_quant.stages import Stages, forward, network_of, why_not

pytestmark = [
    pytest.mark.skipif(find()[0] is None, reason="no engine"),
    pytest.mark.usefixtures("_without_gradients", "_threads_restored"),
]


@pytest.fixture
def _threads_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def drawn(net):
    """All values away from what they start with: the last layer's zeros, slopes of one."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
        for name, value in module.named_parameters(recurse=False):
            if value.ndim == 1 and name != "weight":
                nn.init.normal_(value, std=0.1)
    return net.eval()


def make(arch=LMBSRResNet, *, packed=True, **options):
    net = drawn(arch(**({"num_feat": 12, "upscale": 2} | options)))
    return lmb.convert(net) if packed else net


class ByEngine(nn.Module):
    """A real convolution alone, in the engine's order of additions, which is not every machine's PyTorch's."""

    def __init__(self, conv):
        super().__init__()
        depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
        numbers = {"out_channels": conv.out_channels, "groups": 1 if depthwise else conv.groups}
        numbers["kernel"] = conv.kernel_size[0]
        stage = StageArguments(
            "depthwise" if depthwise else "conv", numbers, {"weight": conv.weight, "bias": conv.bias}
        )
        self.network = EngineNetwork(find()[0], [stage], conv.in_channels)

    def forward(self, x):
        return self.network.run(x)[0]


def by_modules(net, x):
    """What the network gives module by module, real convolutions by the engine."""
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if type(module) is nn.Conv2d:
            net.set_submodule(name, ByEngine(module))
    return net(x)


RECIPES = [
    "lmb", "lmb-k5", "lmb-plus", "lmb-spatial", "lmb-global", "sign", "rsign", "bnn", "bireal", "irnet", "reactnet",
    "bbcu", "e2fif", "btm", "lmb-shift", "fda",
]  # fmt: skip


def check(net, seed):
    draw, x = random.Random(seed), None
    for size in [(1, 1), (draw.randint(1, 12), draw.randint(1, 70)), (draw.randint(20, 70), draw.randint(1, 40))]:
        x = torch.rand(draw.randint(1, 2), network_of(net).channels, *size)
        expected = by_modules(net, x)
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            y = forward(net, x)
            assert y.shape == expected.shape
            torch.testing.assert_close(y, expected, rtol=0, atol=2e-6)
            assert torch.equal(forward(net, x.contiguous(memory_format=torch.channels_last)), y)
            if threads == 1:
                first = y
            assert torch.equal(y, first), "bits depend on the number of threads"


@pytest.mark.parametrize("name", RECIPES)
def test_packed_networks_of_any_recipe(name):
    seed = RECIPES.index(name)
    draw = random.Random(100 + seed)
    net = make(
        recipe=name, num_feat=draw.choice([1, 7, 8, 24, 33]), num_block=draw.randint(1, 3),
        upscale=draw.randint(2, 4), tail=draw.choice(["light", "pointwise"]), img_range=draw.choice([1.0, 16.0]),
    )  # fmt: skip
    assert not why_not(net)
    check(net, seed)


@pytest.mark.parametrize("name", ["lmb", "lmb-hybrid", "sign", "reactnet"])
@pytest.mark.parametrize("options", [{}, {"groups": 3, "kernel_size": 5, "num_real": 2}, {"num_binary": 2}], ids=str)
def test_hybrids(name, options):
    net = make(LMBHybridNet, recipe=name, num_block=2, **options)
    assert not why_not(net)
    check(net, 1)


@pytest.mark.parametrize("upscale", [2, 3, 4])
@pytest.mark.parametrize("name", ["lmb", "sign"])
def test_vdsr(name, upscale):
    net = make(LMBVDSR, recipe=name, num_conv=2, num_feat=9, num_in_ch=1, num_out_ch=1, upscale=upscale)
    x = torch.rand(1, 1, 17, 12)
    torch.testing.assert_close(forward(net, x), by_modules(net, x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("arch", [LMBSRResNet, LMBVDSR, LMBHybridNet])
def test_real_networks(arch):
    net = make(arch, packed=False, recipe=None)
    assert not why_not(net)
    x = torch.rand(2, 3, 13, 21)
    torch.testing.assert_close(forward(net, x), net(x), rtol=0, atol=1e-4)


def test_a_real_network_with_binary_layers_in_training_form_has_none():
    assert "BinaryConv2d is no stage" in why_not(make(packed=False))


def test_the_classic_tail_runs_by_modules():
    net = make(tail="classic")
    assert "ClassicTail is no stage" in why_not(net)
    x = torch.rand(1, 3, 5, 4)
    assert torch.equal(forward(net, x), net(x))


def never(*args, **kwargs):
    raise AssertionError("the engine's form ran")


def test_what_wants_to_see_modules_gets_them(monkeypatch):
    net, x = make(), torch.rand(1, 3, 5, 4)
    forward(net, x)
    monkeypatch.setattr(EngineNetwork, "run", never)
    seen = []
    handle = net.body[0].conv1.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    assert why_not(net) == "hooks"
    forward(net, x)
    assert seen == [(1, 12, 5, 4)]
    handle.remove()
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, args: seen.append(type(module).__name__))
    forward(net, x)
    assert "PackedBinaryConv2d" in seen
    handle.remove()
    with torch.autocast("cpu"):
        assert forward(net, x).shape == (1, 3, 10, 8)
    with torch.enable_grad():
        assert forward(net, x).shape == (1, 3, 10, 8)
    assert forward(net.double(), x.double()).dtype == torch.float64
    assert why_not(net) == "parameters not float32 on the CPU"
    with pytest.raises(AssertionError, match="the engine's form ran"):
        forward(net.float(), x)


def test_where_the_engine_is_off(monkeypatch):
    monkeypatch.setattr("lmb_quant.stages.entry.find", lambda: (None, "LMB_QUANT_KERNELS=off"))
    assert why_not(make()) == "LMB_QUANT_KERNELS=off"


class Doubled(LMBSRResNet):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_forward_of_its_own_is_not_passed_over():
    net, x = make(Doubled, packed=False, recipe=None), torch.rand(1, 3, 5, 4)
    assert why_not(net) == "the forward of Doubled was changed or compiled"
    assert torch.equal(forward(net, x), net(x))
    net = make()
    net.body[0].forward = lambda x, overwrite=False: x
    assert why_not(net) == "the forward of ResidualBlock was changed or compiled"
    assert torch.equal(forward(net, x), net(x))
    net = make()
    net.body = nn.ModuleList(net.body)
    assert "ModuleList is no stage" in why_not(net)


def replaced_tail(net):
    net.tail[0] = nn.Conv2d(12, 12, 3, padding=1)


def written(net):
    net.conv_first.weight.copy_(torch.randn_like(net.conv_first.weight))


def written_past_versions(net):
    net.conv_first.bias.data.add_(1)


def written_bits(net):
    next(packed_convs(net)).weight_packed.bitwise_not_().bitwise_and_(0x0F)


def loaded(net):
    net.load_state_dict({name: value + 1 if value.dtype == torch.float32 else value for name, value in
                         net.state_dict().items()})  # fmt: skip


def another_range(net):
    net.img_range = 3.0


def another_slope(net):
    net.act.negative_slope = 0.7


def other_layers(net):
    net.body[1].conv1, net.body[1].conv2 = net.body[0].conv2, net.body[0].conv1


def fewer_blocks(net):
    del net.body[2]


CHANGES = [replaced_tail, written, written_past_versions, written_bits, loaded, another_range, another_slope,
           other_layers, fewer_blocks]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("inference", [False, True], ids=["tensors", "inference tensors"])
def test_a_changed_network_gives_no_stale_result(change, inference):
    x = torch.rand(1, 3, 9, 8)
    with torch.inference_mode(inference):
        net = make(num_block=3)
        before = forward(net, x).clone()
        change(net)
        expected = by_modules(net, x)
        assert not torch.allclose(before, expected)
        torch.testing.assert_close(forward(net, x), expected, rtol=0, atol=1e-5)


class Shifted(nn.Module):
    """What it does stands in attributes of several kinds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)
        self.shift, self.gains, self.offset = [0.5], {"gain": 2.0}, None

    def forward(self, x):
        y = self.layer((x + self.shift[0]) * self.gains["gain"])
        return y if self.offset is None else y + self.offset

    def stages(self):
        stages = Stages(4)
        stages.range(self.shift[0], self.gains["gain"])
        stages.conv(self.layer)
        if self.offset is not None:
            stages.range(self.offset, 1.0)
        return stages


def write_list(net):
    net.shift[0] = 0.1


def write_dict(net):
    net.gains["gain"] = 1.0


def give_number(net):
    net.offset = 0.25


@pytest.mark.parametrize("change", [write_list, write_dict, give_number], ids=lambda change: change.__name__)
def test_attributes_that_were_written_to_give_no_stale_result(change):
    net, x = Shifted(), torch.rand(1, 4, 5, 6)
    with torch.no_grad():
        before = forward(net, x)
        assert not why_not(net)
        change(net)
        assert not torch.allclose(net(x), before)
        torch.testing.assert_close(forward(net, x), net(x), rtol=0, atol=1e-5)


def test_tensors_in_the_place_of_numbers_are_the_modules_affair():
    net, x = Shifted(), torch.rand(1, 4, 5, 6)
    net.pair = (1.0, 2.0)
    with torch.no_grad():
        forward(net, x)
        net.pair = (torch.zeros(2), torch.zeros(2))
        torch.testing.assert_close(forward(net, x), net(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda stages: stages.add_upscaled(2, "nearest", 1.0), "unknown mode of a stage 'nearest'"),
        (lambda stages: stages.upscale(2, "nearest"), "unknown mode of a stage 'nearest'"),
        (lambda stages: stages.shuffle(2.0), "upscale: 2.0 is no stage's. Allowed: a whole number from 1"),
        (lambda stages: stages.range("a", 1.0), "offset: 'a' is no stage's. Allowed: a number"),
        (lambda stages: stages.add(-1), "value: -1 is no stage's. Allowed: a whole number from 0"),
    ],
)
def test_what_no_stage_says_is_refused_where_it_is_written(write, message):
    with pytest.raises(LMBError, match=message):
        write(Stages(3))


def test_the_form_is_kept_and_ends_with_the_network(monkeypatch):
    net = make()
    assert network_of(net) is network_of(net)
    closed = network_of(net)._close
    assert closed.alive
    del net
    gc.collect()
    assert not closed.alive


def test_several_callers_of_a_network_that_has_no_form_yet():
    x = torch.rand(1, 3, 40, 30)
    for _ in range(5):
        net, results, start = make(num_block=1), [], threading.Barrier(4)

        def call(net=net, results=results, start=start):
            start.wait()
            with torch.no_grad():
                results.append(forward(net, x))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        assert all(torch.equal(y, results[0]) for y in results)


def test_the_engine_says_which_stage_is_wrong():
    with pytest.raises(LMBError, match="network: stage 1: upscale must be 2, 3 or 4"):
        EngineNetwork(find()[0], [StageArguments("shuffle", {"upscale": 7})], 98)


class Plain(nn.Module):
    def __init__(self, layer, act=None):
        super().__init__()
        self.layer, self.act = layer, act

    def forward(self, x):
        y = self.layer(x)
        return y if self.act is None else self.act(y)

    def stages(self):
        stages = Stages(4)
        stages.conv(self.layer, self.act)
        return stages


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 5, 7, padding=3),
        nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
        nn.Conv2d(4, 6, 3, padding="same", groups=2),
        nn.Conv2d(4, 9, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "act", [None, nn.ReLU(), nn.LeakyReLU(0.3), nn.PReLU(), nn.SiLU(), nn.Hardtanh()], ids=lambda a: type(a).__name__
)
def test_convolutions_and_functions(layer, act):
    net, x = Plain(layer, act), torch.randn(2, 4, 9, 11)
    assert not why_not(net)
    torch.testing.assert_close(forward(net, x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Conv2d(4, 4, 3), "Conv2d of kernel"),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), "stride"),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), "dilation"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), "kernel"),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), "ConvTranspose2d is no stage"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), "ParametrizedConv2d is no stage"),
    ],
    ids=str,
)
def test_what_is_no_stage_runs_by_modules(layer, words):
    net, x = Plain(layer), torch.randn(1, 4, 6, 6)
    assert words in why_not(net)
    assert torch.equal(forward(net, x), net(x))


def test_an_activation_function_without_a_stage():
    assert "act: GELU has no packed form" in why_not(Plain(nn.Conv2d(4, 4, 1), nn.GELU()))


@pytest.mark.parametrize(
    "x",
    [torch.rand(1, 5, 4, 4), torch.rand(4, 4, 4), torch.rand(0, 4, 4, 4), torch._neg_view(torch.rand(1, 4, 4, 4))],
    ids=["5", "3-D", "0", "negative view"],
)
def test_other_inputs_are_the_modules_affair(x):
    net = Plain(nn.Conv2d(4, 4, 1))
    try:
        expected = net(x)
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match=str(error)[:30].replace("(", r"\(").replace("[", r"\[")):
            forward(net, x)
    else:
        assert torch.equal(forward(net, x), expected)
