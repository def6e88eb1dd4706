# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import logging
import os

import pytest
from ignite.engine import Events

from monai_mgca.handlers import AlignmentLossHandler, RunSummary


@pytest.fixture
def summary_of(make_toy, caplog):
    """The summary that a run over a toy logs."""

    def run(files, **kwargs):
        toy = make_toy((4,))
        evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
        RunSummary(files, **kwargs).attach(evaluator)
        with caplog.at_level(logging.INFO, logger="monai_mgca"):
            evaluator.run()
        return caplog.records[-1].getMessage()

    return run


def test_text(summary_of, tmp_path):
    (tmp_path / "model.pt").touch()
    files = {"the network": f"{tmp_path}/model.pt", "nothing": f"{tmp_path}/none.csv"}
    lines = summary_of(files, next_steps=["Go on with it."]).splitlines()
    assert lines[0].startswith("Finished epoch 1 after ")
    assert any(line.split()[0] == "val_loss" and float(line.split()[1]) > 0 for line in lines)
    assert f"  {tmp_path}/model.pt: the network" in lines
    assert f"  {tmp_path}/none.csv (not written): nothing" in lines
    assert lines[-1] == "Go on with it."


def test_pattern_stands_for_the_newest(summary_of, tmp_path):
    folder = tmp_path / "run [1]"  # brackets are no pattern in a folder's name
    folder.mkdir()
    for age, name in ((20, "events.1"), (10, "events.2")):
        (folder / name).touch()
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    text = summary_of({"curves": f"{folder}/events*"})
    assert "events.2: curves" in text
    assert "events.1" not in text


def test_figures(summary_of):
    text = summary_of({}, figures=["val_instance_loss", "unknown"])
    assert "val_instance_loss" in text
    assert "val_prototype_loss" not in text
    assert "unknown" not in text


def test_interval_stands_beside_its_figure(make_toy, caplog):
    evaluator = make_toy((4,)).evaluator()
    RunSummary({}).attach(evaluator)
    figures = {"auroc": 0.8, "auroc_low": 0.7, "auroc_high": 0.9, "ap": 0.5}
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(figures))
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        evaluator.run()
    lines = [line.split(maxsplit=1) for line in caplog.records[-1].getMessage().splitlines()]
    assert ["auroc", "0.8000 (0.7000 to 0.9000)"] in lines
    assert ["ap", "0.5000"] in lines
    assert not any(line[0].startswith("auroc_") for line in lines)


def train(make_toy, caplog, figures, resumed=None):
    """What is logged of a training whose validations have these key metrics, the last of them in this process alone."""
    toy = make_toy((4,))
    evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
    trainer = toy.trainer(len(figures))

    def validate(engine):
        epoch = engine.state.epoch
        if resumed and epoch <= resumed:
            return
        evaluator.run(epoch)

    def set_figures(engine):
        state, value = engine.state, figures[engine.state.epoch - 1]
        state.metrics |= {"val_loss": value, "val_other": value + 1}
        best = min(range(state.epoch), key=figures.__getitem__)
        state.best_metric, state.best_metric_epoch = figures[best], best + 1

    evaluator.add_event_handler(Events.EPOCH_COMPLETED, set_figures)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    RunSummary({}, evaluator, figures=["val_loss", "val_other"]).attach(trainer)
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        trainer.run()
    return caplog.records[-1].getMessage().splitlines()


def test_figures_of_the_best_epoch_stand_beside_those_of_the_last(make_toy, caplog):
    lines = train(make_toy, caplog, [0.5, 0.25, 0.75])
    assert lines[0].startswith("Finished epoch 3 after ")
    assert lines[1] == ("Best epoch 2: val_loss 0.2500; last epoch 3: val_loss 0.7500. The files hold the best one.")
    assert lines[2].split() == ["best", "epoch", "2", "last", "epoch", "3"]
    assert [line.split() for line in lines[3:5]] == [
        ["val_loss", "0.2500", "0.7500"],
        ["val_other", "1.2500", "1.7500"],
    ]


def test_the_last_epoch_may_be_the_best(make_toy, caplog):
    lines = train(make_toy, caplog, [0.5, 0.25])
    assert lines[1] == "Best epoch 2, the last one: val_loss 0.2500."
    assert [line.split() for line in lines[2:4]] == [["val_loss", "0.2500"], ["val_other", "1.2500"]]


def test_the_best_epoch_may_be_of_a_process_that_ended(make_toy, caplog):
    lines = train(make_toy, caplog, [0.25, 0.5, 0.75], resumed=1)
    assert lines[1].startswith("Best epoch 1: val_loss 0.2500; last epoch 3: val_loss 0.7500.")
    assert [line.split() for line in lines[3:5]] == [["val_loss", "0.2500", "0.7500"], ["val_other", "-", "1.7500"]]


def test_a_training_that_was_over_when_it_was_resumed(make_toy, caplog):
    toy = make_toy((4,))
    evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.25, 2  # as a checkpoint restores them
    trainer = toy.trainer()
    RunSummary({}, evaluator).attach(trainer)
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        trainer.run()
    assert caplog.records[-1].getMessage().splitlines()[1:] == ["Best epoch 2: val_loss 0.2500.", "Written:"]
