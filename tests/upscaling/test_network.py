# SPDX-License-Identifier: Apache-2.0
"""What a trial run finds out about a network, and that it leaves no trace."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import assert_same_state, recipe, state_of
from torch import nn

import lmb_quant as lmb
from lmb_quant import LMBError
from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.network import evaluated, find_traits, is_local, running

from .conftest import make_network


def traits_of(net):
    with running():
        return find_traits(evaluated(net))


def locality_of(net):
    net = evaluated(net)
    with running():
        return is_local(net, find_traits(net))


def conv(kernel=3, inputs=3, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": "same", **options})


@pytest.mark.parametrize(
    ("net", "reach"),
    [
        (nn.Sequential(conv(3), conv(5)), 1 + 2),
        (nn.Sequential(conv(5, dilation=3)), 6),
        (nn.Sequential(nn.Upsample(scale_factor=2), conv(5), conv(5)), 1 + 2),  # the first 1: nearest, at most
        (nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(1)), 1),
        (nn.Sequential(nn.ReplicationPad2d(2), conv(5, padding=0)), 2 + 4),  # an upper bound
    ],
)
def test_reach_is_summed_in_lr_pixels(net, reach):
    assert traits_of(net).reach == reach + 1  # and one for rounding at changes of size


@pytest.mark.parametrize("window", [3, 7])
def test_windows_count_in_both_forms(window):
    net = make_network(recipe=recipe(activation={"window": window}))
    half = window // 2
    expected = 1 + 4 * (1 + half) + 1 + 1 + 1  # head, body, tail, bilinear upscaling, rounding
    assert traits_of(net).reach == traits_of(lmb.convert(net)).reach == expected


def test_strided_networks_have_an_alignment():
    net = nn.Sequential(nn.PixelUnshuffle(2), conv(3, 12, 48), nn.PixelShuffle(4))
    traits = traits_of(net)
    assert (traits.upscale, traits.alignment, traits.reach) == (2, 2, 2 + 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_and_upscale(channels):
    traits = traits_of(make_network("vdsr", num_in_ch=channels, num_out_ch=channels, upscale=3))
    assert (traits.channels, traits.upscale) == (channels, 3)


class Rolled(nn.Module):
    """Looks 40 pixels to the left by an operation that is not known to the trial run."""

    def forward(self, x):
        return x + x.roll(40, 3)


class Attention(nn.Module):
    """Channel attention, as RCAN has it."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = conv(), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        y = self.conv(x)
        return y * torch.sigmoid(self.pool(y))


def test_locality_is_measured():
    assert locality_of(nn.Sequential(conv(3), conv(5)))
    assert locality_of(make_network())
    assert not locality_of(nn.Sequential(conv(), Rolled()))
    assert not locality_of(Attention())


@pytest.mark.parametrize("form", [lambda net: net, lmb.convert], ids=["training", "packed"])
def test_global_windows_are_known(form):
    net = form(make_network(recipe=recipe(activation={"window": "global"})))
    assert traits_of(net).sees_all
    assert not locality_of(net)


def test_nothing_is_left_behind():
    net = make_network()
    net.tail.eval()  # part of a network in another mode
    image, modes, threads = torch.rand(3, 5, 5), [m.training for m in net.modules()], torch.get_num_threads()
    rng = torch.get_rng_state()
    seen = []
    lmb.upscale(net, image, threads=threads + 1, progress=lambda *_: seen.append(torch.get_num_threads()))
    assert seen == [threads + 1]
    assert torch.equal(torch.get_rng_state(), rng)
    assert [m.training for m in net.modules()] == modes
    assert torch.get_num_threads() == threads
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_failure_leaves_all_as_it_was():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(LMBError, match="model: it does not run on an image of 24 x 24"):
        lmb.upscale(net, torch.rand(3, 5, 5), threads=torch.get_num_threads() + 1)
    assert net.training


NORMED = recipe(unit={"norm": "batch"})  # in training mode a batch's own statistics


def make_trained():
    net = make_network(recipe=NORMED)
    for _ in range(2):
        net(torch.rand(2, 3, 12, 12))
    return net.train()


FORMS = {"training": make_trained, "eval": lambda: make_trained().eval(), "packed": lambda: lmb.convert(make_trained())}


@pytest.mark.parametrize("form", FORMS)
def test_several_threads_get_what_one_gets(form):
    net = FORMS[form]()
    images = [torch.rand(3, 20 + i, 31) for i in range(3)]
    expected = [lmb.upscale(copy.deepcopy(net).eval(), image) for image in images]
    modes, threads, state = [m.training for m in net.modules()], torch.get_num_threads(), state_of(net)
    seen, done = set(), threading.Event()

    def watch():
        while not done.is_set():
            seen.add((torch.get_num_threads(), *(module.training for module in net.modules())))
            done.wait(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    shared = Upscaler(net, threads=2)
    with ThreadPoolExecutor(6) as pool:
        runs = [
            pool.submit(lmb.upscale, net, images[i % 3], tile=(None, 9)[i % 2], threads=1 + i % 2) for i in range(12)
        ]
        runs += [pool.submit(shared, images[i % 3]) for i in range(6)]
        results = [run.result() for run in runs]
    done.set()
    watcher.join()
    assert all(torch.equal(result, expected[i % 3]) for i, result in enumerate(results))
    assert seen == {(threads, *modes)}
    assert [m.training for m in net.modules()] == modes
    assert_same_state(net, state)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_network_in_training_shares_its_tensors_and_is_left_in_its_mode():
    net = make_trained()
    upscaler, image = Upscaler(net), torch.rand(3, 6, 6)
    before = upscaler(image)
    with torch.no_grad():
        net.conv_first.bias.add_(0.5)
    after = upscaler(image)
    assert not torch.equal(before, after)
    assert torch.equal(after, lmb.upscale(copy.deepcopy(net).eval(), image))
    assert net.training
    assert upscaler.model is not net


def test_what_becomes_of_the_network_afterwards_does_not_matter():
    net, image = make_trained().eval(), torch.rand(3, 6, 6)
    upscaler, expected = Upscaler(net), lmb.upscale(net, image)
    net.train()
    assert torch.equal(upscaler(image), expected)


def test_hooks_are_called_and_stay_those_of_the_user():
    class Collector:
        def __init__(self):
            self.sizes = []

        def hook(self, module, args):
            self.sizes.append(tuple(args[0].shape[2:]))

    collector, net = Collector(), make_network()
    net.conv_first.register_forward_pre_hook(collector.hook)
    lmb.upscale(net, torch.rand(3, 5, 7))
    assert collector.sizes[-1] == (5, 7)


def test_a_compiled_network_in_eval_mode_runs_compiled():
    compiled = torch.compile(nn.Sequential(conv(), nn.Upsample(scale_factor=2)).eval())
    assert evaluated(compiled) is compiled


def test_a_wrapped_network_in_training():
    net, image = make_trained(), torch.rand(3, 6, 6)
    assert torch.equal(lmb.upscale(torch.compile(nn.DataParallel(net)), image), lmb.upscale(net, image))


def test_an_exported_program():
    packed, image = lmb.convert(make_network()), torch.rand(3, 9, 8)
    sizes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(packed, (torch.rand(1, 3, 14, 11),), dynamic_shapes=sizes).module()
    torch.testing.assert_close(lmb.upscale(program, image), lmb.upscale(packed, image))


def test_a_network_without_values_is_told():
    with pytest.raises(LMBError, match=r"model: 'conv_first.weight' is on the meta device, without values"):
        lmb.upscale(lmb.convert(make_network()).to("meta"), torch.rand(3, 5, 5))


def test_a_network_that_cannot_be_copied_is_told():
    net = nn.Sequential(conv(), nn.Upsample(scale_factor=2))
    net.lock = threading.Lock()
    with pytest.raises(LMBError, match=r"model: it is in training mode or binary, and cannot be copied: .*model.eval"):
        lmb.upscale(net, torch.rand(3, 5, 5))
    assert lmb.upscale(net.eval(), torch.rand(3, 5, 5)).shape == (3, 10, 10)


class Broken(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x, x), "its result is tuple"),
        (lambda x: x[0], r"its result is shape \(3, 24, 24\)"),
        (lambda x: x[:, :, 1:], "height and width times a whole number"),
        (lambda x: x[:, :1], "the same channels"),
        (lambda x: x * float("nan"), "has NaN or infinities"),
        (lambda x: x / 0, "has NaN or infinities"),
    ],
)
def test_a_network_that_does_not_upscale_is_named(make, message):
    with pytest.raises(LMBError, match=message):
        lmb.upscale(Broken(make), torch.rand(3, 5, 5))


def test_nan_of_one_tile_is_an_error():
    def make(x):
        return torch.where(x > 2, torch.nan, x)

    image = torch.zeros(3, 30, 30)
    image[0, 29, 29] = 3
    with pytest.raises(LMBError, match="has NaN or infinities"):
        lmb.upscale(Broken(make), image, tile=8)


def test_too_little_memory_names_the_remedy():
    def make(x):
        return x + torch.empty(1 << 60) if x.shape[-1] == 31 else x

    with pytest.raises(LMBError, match=r"do not fit into memory.*tile=256"):
        lmb.upscale(Broken(make), torch.rand(3, 31, 31))
