# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from ignite.engine import Events

from monai_mgca.handlers import FreezePrototypes


def weights_by_epoch(toy, epochs, frozen):
    trainer, seen = toy.trainer(epochs), [toy.network.prototypes.weight.detach().clone()]
    FreezePrototypes(toy.network, frozen).attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda _: seen.append(toy.network.prototypes.weight.detach().clone())
    )
    trainer.run()
    return seen


def test_moves_from_the_second_epoch_on(make_toy):
    start, first, second = weights_by_epoch(make_toy(), epochs=2, frozen=1)
    assert first.equal(start)
    assert not second.equal(first)


def test_zero_epochs(make_toy):
    start, first = weights_by_epoch(make_toy(), epochs=1, frozen=0)
    assert not first.equal(start)


def test_the_rest_is_trained(make_toy):
    toy = make_toy()
    before = toy.network.image.weight.detach().clone()
    weights_by_epoch(toy, epochs=1, frozen=1)
    assert not toy.network.image.weight.equal(before)
