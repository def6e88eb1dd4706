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
    assert lines[0].startswith("Finished epoch 1 after 0 min")
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


def test_best_of_the_evaluator(make_toy, caplog):
    toy = make_toy((4,))
    evaluator = toy.evaluator(key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)})
    evaluator.run()
    trainer = toy.trainer()
    RunSummary({}, evaluator).attach(trainer)
    with caplog.at_level(logging.INFO, logger="monai_mgca"):
        trainer.run()
    assert f"Best val_loss: {evaluator.state.best_metric:.4f} at epoch 1." in caplog.text
