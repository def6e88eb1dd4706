# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds of the validation: the best network and early stopping."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler

from monai_mgca.handlers import AlignmentLossHandler, BestModelSaver, EarlyStopOnKeyMetric, TrainingCheckpoint

from .checkpoints import Killed, names, newest


def validated(toy, folder, epochs, resume=False, patience=100, lr=0.01, kill_validation=None):
    """A training with validation, a saver of the best network and early stopping."""
    toy.optimizer.param_groups[0]["lr"] = lr
    saver = BestModelSaver(
        str(folder), {"model": toy.network}, key_metric_filename="best.pt", key_metric_negative_sign=True
    )
    evaluator = toy.evaluator(
        [saver], key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)}, metric_cmp_fn=lambda new, best: new < best
    )
    stop = EarlyStopOnKeyMetric(evaluator, patience=patience, negative_sign=True)

    @evaluator.on(Events.ITERATION_COMPLETED)
    def kill():
        if evaluator.state.epoch == kill_validation:
            raise Killed

    objects = {"network": toy.network, "optimizer": toy.optimizer}
    checkpoint = TrainingCheckpoint(folder, objects, evaluator, [saver], stop, resume=resume)
    toy.trainer(epochs, [ValidationHandler(1, evaluator), stop, checkpoint]).run()
    return evaluator, stop


def test_early_stopping_had_ended_it(make_toy, tmp_path):
    _, stop = validated(make_toy(), tmp_path, epochs=9, patience=1, lr=10.0)
    done = newest(tmp_path)
    assert stop._handler.counter == 1
    assert done.name != "checkpoint_iteration=27.pt"
    validated(make_toy(seed=1), tmp_path, epochs=9, resume=True, patience=1)
    assert newest(tmp_path) == done
    # with more patience it goes on
    validated(make_toy(seed=1), tmp_path, epochs=9, resume=True, patience=100)
    assert newest(tmp_path).name == "checkpoint_iteration=27.pt"


def test_an_evaluation_without_a_training(make_toy, tmp_path):
    toy = make_toy()
    evaluator = toy.evaluator()
    toy.trainer(1, [TrainingCheckpoint(tmp_path, {"network": toy.network}, evaluator)])
    evaluator.run()
    assert names(tmp_path) == []


def test_killed_in_a_validation(make_toy, tmp_path):
    """What the validation decides, and the mean of the epoch's loss, are as if it had not been."""
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    expected, _ = validated(make_toy(), whole, epochs=3)
    with pytest.raises(Killed):
        validated(make_toy(), killed, epochs=3, kill_validation=2)
    state = torch.load(newest(killed), weights_only=True)
    assert state["trainer"] == {"iteration": 6, "unfinished": True}
    evaluator, _ = validated(make_toy(seed=1), killed, epochs=3, resume=True)
    assert evaluator.state.metrics == expected.state.metrics
    assert evaluator.state.best_metric == expected.state.best_metric
    assert names(killed) == names(whole)
    for name in names(whole):
        first, second = (torch.load(folder / name, weights_only=True) for folder in (whole, killed))
        assert repr(first) == repr(second)


def test_resume_remembers_the_best_network(make_toy, tmp_path):
    toy = make_toy()
    evaluator, _ = validated(toy, tmp_path, epochs=3)
    best, content = evaluator.state.best_metric, (tmp_path / "best.pt").read_bytes()
    # a useless network must neither become the best nor overwrite it
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
