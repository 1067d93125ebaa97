# SPDX-License-Identifier: Apache-2.0
"""The stream of training samples as a pure function of (seed, number of the sample), so that it can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset

from basicsr.data.data_sampler import EnlargedSampler

from .rng import isolated_rng, mix_seed


class Draw(int):
    """An index into a data set that also knows its place in the stream: ``seed`` is that sample's own."""

    seed: int

    def __new__(cls, index: int, seed: int = 0) -> Draw:
        """Makes ``index`` with a seed."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw


class StreamSampler(EnlargedSampler):
    """Sample number n (over all processes and all of the training) is an element of the shuffled pass ``n // len``.

    It takes the place of BasicSR's sampler, whose epochs always start at their beginning. An epoch is only the stretch
    after which the loader is asked anew; where it begins follows from its number and from :meth:`begin`.
    """

    batch: int
    batches: int
    seed: int
    first: int

    def begin(self, *, batch: int, batches: int, seed: int, first: int) -> None:
        """Sets what BasicSR does not hand to a sampler.

        Args:
            batch: Samples in a batch of this process.
            batches: Batches in an epoch.
            seed: The run's seed.
            first: Batches already trained on; earlier ones are left out without being loaded.
        """
        self.batch, self.batches, self.seed, self.first = batch, batches, seed, first

    def __iter__(self) -> Iterator[Draw]:
        length, shuffled, order = len(self.dataset), -1, torch.empty(0)
        first = max(self.epoch * self.batches, self.first)
        for place in range(first * self.batch, (self.epoch + 1) * self.batches * self.batch):
            number = place * self.num_replicas + self.rank
            if number // length != shuffled:
                shuffled = number // length
                order = torch.randperm(
                    length, generator=torch.Generator().manual_seed(mix_seed(self.seed, 0, shuffled))
                )
            yield Draw(int(order[number % length]), mix_seed(self.seed, 1, number))


class SeededDataset(Dataset[Any]):
    """Any training set; what its items draw at random depends on the sample's own seed and on nothing else.

    The generators of the process are left as they were.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.opt = dataset.opt

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        with isolated_rng(index.seed if isinstance(index, Draw) else None):
            return self.dataset[int(index)]
