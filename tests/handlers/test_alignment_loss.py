# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from ignite.exceptions import NotComputableError

from monai_mgca.handlers import AlignmentLossHandler, loss_terms
from monai_mgca.losses import MGCALoss


def weighted(values, sizes):
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)


class TestAlignmentLossHandler:
    def test_evaluator_averages_over_samples(self, make_toy):
        sizes = (5, 4, 2)
        toy = make_toy(sizes)
        evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
        evaluator.run()
        parts = [MGCALoss((1, 0, 1)).components(output) for output in toy.outputs()]
        instance = weighted([part["instance"].item() for part in parts], sizes)
        prototype = weighted([part["prototype"].item() for part in parts], sizes)
        metrics = evaluator.state.metrics
        assert metrics["val_instance_loss"] == pytest.approx(instance, rel=1e-5)
        assert metrics["val_prototype_loss"] == pytest.approx(prototype, rel=1e-5)
        assert metrics["val_loss"] == pytest.approx(instance + prototype, rel=1e-5)
        assert "val_token_loss" not in metrics  # of weight 0

    def test_trainer_takes_the_loss_of_the_step(self, make_toy):
        toy, seen = make_toy((5, 2)), []
        handler = AlignmentLossHandler(toy.loss, prefix="train_")
        trainer = toy.trainer(key_train_metric={"train_loss": handler})
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.output["loss"]))
        trainer.run()
        expected = weighted([loss.item() for loss in seen], (5, 2))
        assert trainer.state.metrics["train_loss"] == pytest.approx(expected, rel=1e-5)
        assert {"train_instance_loss", "train_prototype_loss"} <= trainer.state.metrics.keys()

    def test_validation_does_not_gather(self, make_toy, monkeypatch):
        def gather(*args):
            raise AssertionError("the other processes may have no batch left")

        monkeypatch.setattr("monai_mgca.losses.instance.batch_sizes", gather)
        monkeypatch.setattr("monai_mgca.losses.prototype.batch_sizes", gather)
        toy = make_toy()
        toy.loss.instance.gather_distributed = toy.loss.prototype.gather_distributed = True
        evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
        evaluator.run()
        assert evaluator.state.metrics["val_loss"] > 0
        assert toy.loss.training
        assert toy.loss.instance.training
        with pytest.raises(AssertionError, match="no batch left"):  # in training it does
            toy.loss(toy.outputs()[0])

    def test_every_epoch_starts_again(self, make_toy):
        toy = make_toy()
        evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
        evaluator.run()
        first = evaluator.state.metrics["val_loss"]
        evaluator.run()
        assert evaluator.state.metrics["val_loss"] == first

    def test_no_batch(self):
        with pytest.raises(NotComputableError, match="no batch"):
            AlignmentLossHandler(MGCALoss()).compute()


def test_loss_terms(make_toy):
    toy = make_toy((4,))
    output = toy.outputs()[0]
    total = toy.loss(output)
    terms = loss_terms(toy.loss, toy.optimizer)({"loss": total})
    assert terms.keys() == {"loss", "instance_loss", "prototype_loss", "learning_rate"}
    assert terms["learning_rate"] == 0.01
    torch.testing.assert_close(terms["instance_loss"] + terms["prototype_loss"], terms["loss"])
