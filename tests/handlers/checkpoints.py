# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Short trainings with checkpoints, whole, killed or resumed, for the tests of them."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset

from monai_mgca.data import StreamDataset, StreamSampler
from monai_mgca.handlers import AlignmentLossHandler, TrainingCheckpoint


class Killed(Exception):  # noqa: N818  it stands for a signal
    pass


def run(toy, folder, epochs, resume=False, interval=0, kill_after=None, **options):
    """Train, perhaps until an iteration whose end nothing but the checkpoint has seen."""
    objects = {"network": toy.network, "optimizer": toy.optimizer}
    loss = AlignmentLossHandler(toy.loss, prefix="train_")
    trainer = toy.trainer(epochs, key_train_metric={"train_loss": loss}, **options)
    TrainingCheckpoint(folder, objects, metrics={"train_loss": loss}, interval=interval, resume=resume).attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED(once=kill_after or 10**9))
    def kill():
        raise Killed

    if kill_after is None:
        trainer.run()
    else:
        with pytest.raises(Killed):
            trainer.run()
    return trainer


def newest(folder):
    return max(folder.glob("checkpoint_iteration=*.pt"), key=lambda path: int(path.stem.split("=")[1]))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(first, second):
    states = first.network.state_dict(), second.network.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def with_loader(make_toy, number=14, seed=0):
    """A toy with dropout and a loader whose items come in another order in every epoch."""
    toy = make_toy(sizes=(1,) * number, seed=seed)
    items = [{key: value[0] for key, value in batch.items()} for batch in toy.batches]
    sampler = StreamSampler(items, seed=3)
    toy.batches = DataLoader(
        StreamDataset(Dataset(items), seed=3),
        batch_size=3,
        sampler=sampler,
        drop_last=True,
        generator=torch.Generator(),
    )
    toy.network.image = torch.nn.Sequential(torch.nn.Linear(16, 6), torch.nn.Dropout(0.3))
    toy.optimizer = torch.optim.AdamW(toy.network.parameters(), lr=0.01)
    return toy
