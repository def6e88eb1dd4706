# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Streams batches from a dataset in an order that can be resumed at any iteration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, DistributedSampler

from monai_mgca.utils.dist import rank, world_size
from monai_mgca.utils.random_state import seeded

__all__ = ["StreamDataset", "StreamSampler", "flatten_patches"]


def _mix(*numbers: int) -> int:
    """One 32-bit seed from several numbers, which is another one when any of them is."""
    return int(np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1)[0])


class StreamSampler(DistributedSampler):
    """The order of a training's items, as places in an endless stream: ``epoch * len(dataset) + index``.

    An epoch's order comes from the seed and the number of the epoch alone, so a training that is resumed goes on in
    the order of the one that was stopped. Of several processes, which must have the same seed, each takes its share
    of every stretch of the order; what cannot be shared evenly is left out in this epoch. MONAI's trainers set the
    number of the epoch; elsewhere call ``set_epoch``.

    Args:
        dataset: what is sampled, of which only the length matters.
        seed: of the order.

    Example::

        sampler = StreamSampler(range(4), seed=0)
        sampler.set_epoch(2)
        print([place % 4 for place in sampler])
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas=world_size(), rank=rank(), seed=seed, drop_last=True)
        self.start = 0

    def start_at(self, count: int) -> None:
        """Begin the next epoch behind its first items; the one after it is whole again.

        Args:
            count: how many of this process's items are left out, which are then not loaded either.
        """
        self.start = count

    def __iter__(self) -> Iterator[int]:
        items = len(self.dataset)  # type: ignore[arg-type]  # torch declares no length of a dataset
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        order = torch.randperm(items, generator=generator)[self.rank : self.total_size : self.num_replicas]
        start, self.start = self.start, 0
        return iter((self.epoch * items + order[start:]).tolist())


class StreamDataset(Dataset):
    """Items by their place in the stream of :class:`StreamSampler`, each with random numbers of its own.

    Before an item is made, the random transforms, and the random numbers of Python, NumPy and torch, are seeded from
    the seed, the epoch and the index. So it is the same with any number of worker processes, and in a training that
    was resumed. The item gets its place in the datalist under "index".

    Args:
        dataset: gives dictionaries, or lists of them where a transform makes several; its random transforms are in
            ``dataset.transform``, as in MONAI's datasets.
        seed: of the random transforms.

    Example::

        dataset = StreamDataset([{"image": torch.zeros(1)}, {"image": torch.ones(1)}], seed=0)
        print(len(dataset), dataset[5]["index"])  # the second item in the third epoch
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed
        self.random = np.random.RandomState()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> Any:
        epoch, index = divmod(place, len(self.dataset))
        seed = _mix(self.seed, epoch, index)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable) and transform.R is not self.random:
            # at first, and in a worker process, where MONAI's loader has given them others
            _share(transform, self.random)
        self.random.seed(seed ^ 1)  # not the numbers of NumPy's own
        with seeded(seed):
            item = self.dataset[index]
        return [_with_index(part, index) for part in item] if isinstance(item, list) else _with_index(item, index)


def _share(transform: Any, random: np.random.RandomState) -> None:
    """Have random transforms draw from one state: a new one for each of them takes longer than a random crop."""
    if isinstance(transform, Randomizable):
        transform.set_random_state(state=random)
    for part in transform.transforms if isinstance(transform, Compose) else ():
        _share(part, random)


def _with_index(item: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {**item, "index": index}


def flatten_patches(batch: Sequence[Any]) -> list[Any]:
    """The items of a batch without collating them, where a transform makes several patches of each.

    Args:
        batch: items, or lists of items.

    In a config: ``"collate_fn": "$monai_mgca.data.flatten_patches"``, for a network that takes lists.

    Example::

        print(flatten_patches([[{"index": 0}, {"index": 0}], [{"index": 1}]]))
    """
    return [item for items in batch for item in (items if isinstance(items, list) else [items])]
