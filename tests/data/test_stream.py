# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.data.utils import no_collation
from monai.transforms import (
    Compose,
    Lambdad,
    OneOf,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropSamplesd,
)

from monai_mgca.data import StreamDataset, StreamSampler, make_dataset, stream
from monai_mgca.utils.random_state import random_state


def draw_globally(image):
    """What a transform that knows nothing of MONAI's random states would do."""
    return torch.stack([image[0, 0] + random.random(), torch.rand(()), torch.tensor(np.random.rand())])


def items(number=10):
    return [{"image": torch.full((1, 4), float(i)).numpy()} for i in range(number)]


def loader(data, workers=0, seed=3, batch_size=4, **options):
    sampler = StreamSampler(data, seed)
    options = {"drop_last": True, "persistent_workers": workers > 0, **options}
    return DataLoader(StreamDataset(data, seed), num_workers=workers, sampler=sampler, batch_size=batch_size, **options)


def epoch_of(data_loader, epoch, start=0):
    data_loader.sampler.set_epoch(epoch)
    data_loader.sampler.start_at(start * data_loader.batch_size)
    return [(batch["index"].tolist(), batch["image"]) for batch in data_loader]


def same(first, second):
    return len(first) == len(second) and all(
        a[0] == b[0] and torch.equal(torch.as_tensor(a[1]), torch.as_tensor(b[1]))
        for a, b in zip(first, second, strict=True)
    )


class TestOrder:
    def order(self, number, epoch, seed=0, start=0):
        sampler = StreamSampler(range(number), seed)
        sampler.set_epoch(epoch)
        sampler.start_at(start)
        return list(sampler)

    def test_every_item_once_in_every_epoch(self):
        for epoch in range(3):
            assert sorted(self.order(7, epoch)) == list(range(7 * epoch, 7 * epoch + 7))

    def test_of_seed_and_epoch_alone(self):
        assert self.order(50, 4) == self.order(50, 4)
        orders = {tuple(i % 50 for i in self.order(50, epoch, seed)) for epoch in range(4) for seed in range(4)}
        assert len(orders) == 16  # seed 0 in epoch 1 is not seed 1 in epoch 0 either

    def test_start(self):
        assert self.order(9, 2, start=4) == self.order(9, 2)[4:]

    def test_the_epoch_after_is_whole(self):
        sampler = StreamSampler(range(9))
        sampler.start_at(4)
        assert [len(list(sampler)), len(list(sampler)), len(sampler)] == [5, 9, 9]

    @pytest.mark.parametrize("number", [8, 9, 10])
    def test_processes_share_each_stretch(self, number, monkeypatch):
        whole = self.order(number, 5)
        monkeypatch.setattr(stream, "world_size", lambda: 2)
        shares = []
        for process in range(2):
            monkeypatch.setattr(stream, "rank", lambda process=process: process)
            shares.append(self.order(number, 5))
        assert [len(share) for share in shares] == [number // 2] * 2
        # a batch of both together is the batch of one process, twice as large
        assert [i for pair in zip(*shares, strict=True) for i in pair] == whole[: number // 2 * 2]


class TestItems:
    TRANSFORM = (
        RandGaussianNoised("image", prob=0.7),
        OneOf([RandScaleIntensityd("image", 0.5, prob=0.7), Compose([RandShiftIntensityd("image", 2.0, prob=0.7)])]),
        Lambdad("image", draw_globally),
    )

    def test_same_with_any_number_of_workers(self):
        data = make_dataset(items(), Compose(self.TRANSFORM))
        alone, several = loader(data), loader(data, workers=2)
        for epoch in (1, 2):
            assert same(epoch_of(alone, epoch), epoch_of(several, epoch))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_same_from_a_later_batch_on(self, workers):
        data = make_dataset(items(13), Compose(self.TRANSFORM))
        whole = epoch_of(loader(data), 3)
        assert len(whole) == 3
        assert same(epoch_of(loader(data, workers), 3, start=2), whole[2:])

    def test_other_numbers_in_every_epoch_and_for_every_item(self):
        data = StreamDataset(make_dataset(items(), Compose(self.TRANSFORM)), seed=0)
        numbers = {float(data[place]["image"][1]) for place in range(40)}
        assert len(numbers) == 40

    @pytest.mark.parametrize("cache", ["memory", "disk"])
    def test_cached(self, cache, tmp_path):
        transform = Compose([Lambdad("image", lambda image: image + 1), *self.TRANSFORM])
        cached = make_dataset(items(), transform, cache, tmp_path, progress=False, track_meta=False)
        assert same(epoch_of(loader(cached), 1), epoch_of(loader(make_dataset(items(), transform)), 1))

    def test_the_training_s_random_numbers_are_left_alone(self):
        data = loader(make_dataset(items(), Compose(self.TRANSFORM)), generator=torch.Generator())
        before = random_state()
        epoch_of(data, 1)
        after = random_state()
        assert before["python"] == after["python"]
        assert torch.equal(before["torch"], after["torch"])
        assert torch.equal(before["numpy"][1], after["numpy"][1])
        assert before["numpy"][2:] == after["numpy"][2:]

    def test_random_transforms_draw_from_one_state(self):
        """A new one for each of them would take longer than most of what they do."""
        data = StreamDataset(make_dataset(items(), Compose(self.TRANSFORM)), seed=0)
        noise, one_of, _ = data.dataset.transform.transforms
        for place in range(3):
            data[place]
            parts = (noise, one_of, *one_of.transforms, one_of.transforms[1].transforms[0])
            assert {id(part.R) for part in parts} == {id(data.random)}

    def test_several_crops_of_an_item(self):
        crops = RandSpatialCropSamplesd("image", roi_size=(2,), num_samples=3, random_size=False)
        data = StreamDataset(make_dataset(items(), Compose([crops])), seed=0)
        assert [part["index"] for part in data[14]] == [4, 4, 4]

    def test_not_collated(self):
        batches = list(loader(make_dataset(items(), Compose(self.TRANSFORM)), collate_fn=no_collation))
        assert [len(batch) for batch in batches] == [4, 4]
        assert all(isinstance(item["index"], int) for batch in batches for item in batch)
