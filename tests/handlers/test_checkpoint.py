# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler

from monai_mgca.handlers import AlignmentLossHandler, BestModelSaver, EarlyStopOnKeyMetric, TrainingCheckpoint
from monai_mgca.utils import CheckpointError


class Killed(Exception):
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


def test_keeps_the_last_two(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=11)
    assert names(tmp_path) == ["checkpoint_iteration=30.pt", "checkpoint_iteration=33.pt"]


def test_resumed_training_equals_a_whole_one(make_toy, tmp_path):
    whole, parts = make_toy(), make_toy()
    run(whole, tmp_path / "whole", epochs=4)
    run(parts, tmp_path / "parts", epochs=2)
    other = make_toy(seed=1)  # its weights must all come from the file
    trainer = run(other, tmp_path / "parts", epochs=4, resume=True)
    assert (trainer.state.epoch, trainer.state.iteration) == (4, 12)
    for name, value in whole.network.state_dict().items():
        assert value.equal(other.network.state_dict()[name]), name


def test_holds_no_pickled_code(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=1)
    state = torch.load(tmp_path / "checkpoint_iteration=3.pt", weights_only=True)
    assert state.keys() == {"network", "optimizer", "trainer", "progress", "settings", "processes"}


def test_nothing_to_resume_from(make_toy, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert run(make_toy(), tmp_path, epochs=1, resume=True).state.epoch == 1
    assert "training starts from the beginning" in caplog.text


def test_without_resume_starts_anew(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=2)
    assert run(make_toy(), tmp_path, epochs=1).state.iteration == 3


def test_finished_training_is_not_trained_further(make_toy, tmp_path):
    toy = make_toy()
    run(toy, tmp_path, epochs=2)
    weight = toy.network.image.weight.detach().clone()
    run(toy, tmp_path, epochs=2, resume=True)
    assert toy.network.image.weight.equal(weight)


def damage(path, keep):
    content = path.read_bytes()
    keep = int(keep * len(content))
    path.write_bytes(content[:keep] if keep else content[:200] + bytes([content[200] ^ 255]) + content[201:])


def same(first, second):
    states = first.network.state_dict(), second.network.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("keep", [0, 0.01, 0.99], ids=["one byte", "start", "all but the end"])
def test_damaged_file(make_toy, tmp_path, keep, caplog):
    whole = make_toy()
    run(whole, tmp_path, epochs=2)
    before, path = tmp_path / "checkpoint_iteration=3.pt", tmp_path / "checkpoint_iteration=6.pt"
    damage(path, keep)
    toy = make_toy(seed=1)
    assert run(toy, tmp_path, epochs=2, resume=True).state.iteration == 6
    assert caplog.text.count(f"The checkpoint {path}") == 1
    assert f"cannot be read: going on from the one before it, {before}" in caplog.text
    assert same(toy, whole)
    assert torch.load(path, weights_only=True)  # it was written again
    damage(before, keep)
    damage(path, keep)
    with pytest.raises(CheckpointError) as caught:
        run(make_toy(), tmp_path, epochs=3, resume=True)
    assert str(path) in str(caught.value) and str(before) in str(caught.value)
    assert names(tmp_path) == [before.name, path.name]  # nothing is removed that might be saved


def test_other_architecture(make_toy, tmp_path):
    run(make_toy(embed_dim=6), tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="does not fit this network.*without --resume"):
        run(make_toy(embed_dim=7), tmp_path, epochs=2, resume=True)


def validated(toy, folder, epochs, resume=False):
    """A training with validation, a saver of the best network and early stopping."""
    saver = BestModelSaver(
        str(folder), {"model": toy.network}, key_metric_filename="best.pt", key_metric_negative_sign=True
    )
    evaluator = toy.evaluator(
        [saver], key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)}, metric_cmp_fn=lambda new, best: new < best
    )
    stop = EarlyStopOnKeyMetric(evaluator, patience=100, negative_sign=True)
    objects = {"network": toy.network, "optimizer": toy.optimizer}
    checkpoint = TrainingCheckpoint(folder, objects, evaluator, [saver], stop, resume=resume)
    toy.trainer(epochs, [ValidationHandler(1, evaluator), stop, checkpoint]).run()
    return evaluator, stop


def test_resume_remembers_the_best_network(make_toy, tmp_path):
    toy = make_toy()
    evaluator, _ = validated(toy, tmp_path, epochs=3)
    best, content = evaluator.state.best_metric, (tmp_path / "best.pt").read_bytes()
    # a network of no use must neither become the best nor overwrite it
    path = newest(tmp_path)
    state = torch.load(path, weights_only=True)
    for value in state["network"].values():
        value.copy_(torch.randn(value.shape))
    torch.save(state, path)
    resumed, stop = validated(make_toy(seed=1), tmp_path, epochs=4, resume=True)
    assert resumed.state.best_metric == best
    assert resumed.state.best_metric_epoch == evaluator.state.best_metric_epoch
    assert (tmp_path / "best.pt").read_bytes() == content
    assert stop._handler.counter == 1
