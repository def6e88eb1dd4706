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
from monai.handlers import CheckpointSaver, ValidationHandler

from monai_mgca.handlers import AlignmentLossHandler, EarlyStopOnKeyMetric, TrainingCheckpoint
from monai_mgca.handlers.checkpoint import newest_checkpoint
from monai_mgca.utils import CheckpointError


def run(toy, folder, epochs, resume=False):
    objects = {"network": toy.network, "optimizer": toy.optimizer}
    trainer = toy.trainer(epochs)
    TrainingCheckpoint(folder, objects, resume=resume).attach(trainer)
    trainer.run()
    return trainer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_keeps_the_last_two(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=11)
    assert names(tmp_path) == ["checkpoint_epoch=10.pt", "checkpoint_epoch=11.pt"]
    assert newest_checkpoint(tmp_path).name == "checkpoint_epoch=11.pt"


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
    state = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    assert state.keys() == {"network", "optimizer", "trainer", "progress"}


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


@pytest.mark.parametrize("keep", [0, 100], ids=["empty", "cut"])
def test_damaged_file(make_toy, tmp_path, keep):
    run(make_toy(), tmp_path, epochs=2)
    path = tmp_path / "checkpoint_epoch=2.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="checkpoint_epoch=2.pt cannot be read.*delete it"):
        run(make_toy(), tmp_path, epochs=3, resume=True)


def test_other_architecture(make_toy, tmp_path):
    run(make_toy(embed_dim=6), tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="does not fit this network.*without --resume"):
        run(make_toy(embed_dim=7), tmp_path, epochs=2, resume=True)


def validated(toy, folder, epochs, resume=False):
    """A training with validation, a saver of the best network and early stopping."""
    saver = CheckpointSaver(
        str(folder), {"model": toy.network}, save_key_metric=True, key_metric_filename="best.pt",
        key_metric_negative_sign=True,
    )  # fmt: skip
    evaluator = toy.evaluator(
        [saver], key_val_metric={"val_loss": AlignmentLossHandler(toy.loss)}, metric_cmp_fn=lambda new, best: new < best
    )
    stop = EarlyStopOnKeyMetric(evaluator, patience=100, negative_sign=True)
    objects = {"network": toy.network, "optimizer": toy.optimizer}
    checkpoint = TrainingCheckpoint(folder, objects, evaluator, [saver], stop, resume)
    toy.trainer(epochs, [ValidationHandler(1, evaluator), stop, checkpoint]).run()
    return evaluator, stop


def test_resume_remembers_the_best_network(make_toy, tmp_path):
    toy = make_toy()
    evaluator, _ = validated(toy, tmp_path, epochs=3)
    best, content = evaluator.state.best_metric, (tmp_path / "best.pt").read_bytes()
    # a network of no use must neither become the best nor overwrite it
    newest = newest_checkpoint(tmp_path)
    state = torch.load(newest, weights_only=True)
    for value in state["network"].values():
        value.copy_(torch.randn(value.shape))
    torch.save(state, newest)
    resumed, stop = validated(make_toy(seed=1), tmp_path, epochs=4, resume=True)
    assert resumed.state.best_metric == best
    assert resumed.state.best_metric_epoch == evaluator.state.best_metric_epoch
    assert (tmp_path / "best.pt").read_bytes() == content
    assert stop._handler.counter == 1
