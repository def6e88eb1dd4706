# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import io
import logging
import re

import pytest
from monai.handlers import ValidationHandler

from monai_mgca.handlers import AlignmentLossHandler, TrainingProgress
from monai_mgca.handlers.training_progress import duration


def test_shows_iterations_and_loss(make_toy):
    stream = io.StringIO()
    trainer = make_toy((4, 4, 4)).trainer()
    TrainingProgress(desc="Toy", file=stream).attach(trainer)
    trainer.run()
    assert "Toy" in stream.getvalue()
    assert "[2/3]" in stream.getvalue()
    assert "loss=" in stream.getvalue()


def test_a_line_for_each_epoch(make_toy, caplog):
    toy = make_toy((4, 4))
    evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
    trainer = toy.trainer(3, key_train_metric={"train_loss": AlignmentLossHandler(toy.loss, "train_")})
    ValidationHandler(interval=2, validator=evaluator).attach(trainer)
    TrainingProgress(evaluator, figures=["val_instance_loss"], file=io.StringIO()).attach(trainer)
    with caplog.at_level(logging.INFO, logger="monai_mgca.handlers.training_progress"):
        trainer.run()
    lines = [record.getMessage() for record in caplog.records if record.name == "monai_mgca.handlers.training_progress"]
    losses = r"train_loss [\d.]+, train_instance_loss [\d.]+, train_prototype_loss [\d.]+"
    assert [line.split(":")[0] for line in lines] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    assert re.fullmatch(rf"Epoch 1/3: {losses}; \d+ s, \d+ s left\.", lines[0])  # no validation: nothing old
    assert re.fullmatch(
        rf"Epoch 2/3: {losses}, val_loss [\d.]+, val_instance_loss [\d.]+ \(best so far\); \d+ s, \d+ s left\.",
        lines[1],
    )
    assert re.fullmatch(rf"Epoch 3/3: {losses}; \d+ s\.", lines[2])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (192, "3 min 12 s"), (3725, "1 h 2 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
