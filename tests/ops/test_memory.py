# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/ops/_memory.py: results reuse memory that nobody holds, and no other."""

import threading

import pytest
import torch

from lmb_quant.ops import _memory
from lmb_quant.ops._memory import empty_channels_last

CPU = torch.device("cpu")
SIZE = (1, 64, 80, 64)  # above the least size


@pytest.fixture(autouse=True)
def nothing_kept():
    _memory._kept.clear()
    yield
    _memory._kept.clear()


def make(size=SIZE):
    return empty_channels_last(size, CPU)


@pytest.mark.parametrize("size", [SIZE, (2, 3, 400, 500), (1, 8, 4, 4), (0, 8, 4, 4), (1, 1, 600, 700)])
def test_it_is_a_plain_channels_last_tensor(size):
    x = make(size)
    assert x.shape == size
    assert x.dtype == torch.float32
    assert x.stride() == torch.empty(size, memory_format=torch.channels_last).stride()
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.fill_(1).sum() == x.numel()


def test_what_is_gone_is_used_again():
    first = make().data_ptr()
    assert make().data_ptr() == first
    x = make()
    y = make()
    assert x.data_ptr() != y.data_ptr()
    places = {x.data_ptr(), y.data_ptr()}
    del x, y
    assert {a.data_ptr() for a in (make(), make())} <= places


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: x[:, :1],
        lambda x: x.detach(),
        lambda x: x.numpy(),
        lambda x: x.untyped_storage(),
        lambda x: torch.utils.dlpack.to_dlpack(x),
        lambda x: memoryview(x.numpy()),
        lambda x: (x.requires_grad_() * x).grad_fn,
    ],
    ids=["view", "detach", "numpy", "storage", "dlpack", "memoryview", "autograd"],
)
def test_what_is_held_in_any_way_is_left_alone(hold):
    x = make()
    place = x.data_ptr()
    held = hold(x)
    del x
    assert make().data_ptr() != place
    del held
    assert place in {a.data_ptr() for a in (make(), make())}


def test_what_another_process_may_read_is_left_alone():
    x = make().share_memory_()
    place = x.data_ptr()
    del x
    assert place not in {a.data_ptr() for a in (make(), make(), make())}


def test_no_more_is_kept_than_the_limit(monkeypatch):
    monkeypatch.setattr(_memory, "_MOST", 3 * 4 * 64 * 80 * 64)
    held = [make() for _ in range(5)]
    assert len({x.data_ptr() for x in held}) == 5
    assert sum(storage.nbytes() for storage in _memory._kept) <= _memory._MOST
    del held
    other = make((1, 64, 80, 128))
    assert sum(storage.nbytes() for storage in _memory._kept) <= _memory._MOST
    assert other.shape[-1] == 128


def test_without_the_count_of_uses_memory_is_fresh(monkeypatch):
    monkeypatch.setattr(_memory, "_uses", None)
    make()
    assert not _memory._kept


def test_threads_never_share_a_result():
    wrong = []

    def work(number):
        for _ in range(200):
            x = make().fill_(number)
            y = make().fill_(number)
            if not (bool((x == number).all()) and bool((y == number).all())):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
