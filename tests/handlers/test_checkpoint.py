# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A resumed training ends as one that was never stopped, or is refused."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from monai_mgca.handlers import TrainingCheckpoint
from monai_mgca.handlers.resume.checkpoint_folder import CheckpointFolder
from monai_mgca.handlers.resume.held_schedule import HeldSchedule
from monai_mgca.utils import CheckpointError

from .checkpoints import names, run, same, with_loader


def test_keeps_the_last_two(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=11)
    assert names(tmp_path) == ["checkpoint_iteration=30.pt", "checkpoint_iteration=33.pt"]


def test_keeps_two_where_the_newest_is_written_again(tmp_path):
    """As after a validation in which the training was killed."""
    first = CheckpointFolder(tmp_path)
    for iteration in (1, 2, 3):
        first.write({}, iteration)
    resumed = CheckpointFolder(tmp_path)
    resumed.read()
    resumed.write({}, 3)
    assert names(tmp_path) == ["checkpoint_iteration=2.pt", "checkpoint_iteration=3.pt"]


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


class Scaler(torch.amp.GradScaler):
    """torch's own, at work on the CPU, with a scale that grows all the time."""

    def __init__(self):
        super().__init__("cpu", init_scale=4.0, growth_interval=2)


def test_the_gradient_scaler_goes_on(make_toy, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", Scaler)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.enable_grad())
    whole = run(make_toy(), tmp_path / "whole", epochs=3, amp=True).scaler.state_dict()
    run(make_toy(), tmp_path / "parts", epochs=2, amp=True)
    assert run(make_toy(), tmp_path / "parts", epochs=3, resume=True, amp=True).scaler.state_dict() == whole
    assert whole["scale"] == 64


@pytest.mark.parametrize("before", ["without", "not at work"])
def test_mixed_precision_that_comes_or_goes_later(make_toy, tmp_path, monkeypatch, before):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.enable_grad())
    run(make_toy(), tmp_path, epochs=1, amp=before == "not at work")  # torch's, without a GPU
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", Scaler)
    assert run(make_toy(), tmp_path, epochs=2, resume=True, amp=True).scaler.state_dict()["scale"] > 4
    assert run(make_toy(), tmp_path, epochs=3, resume=True).state.epoch == 3


def test_nothing_to_resume_from(make_toy, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert run(make_toy(), tmp_path, epochs=1, resume=True).state.epoch == 1
    assert "training starts from the beginning" in caplog.text


def test_without_resume_starts_from_the_beginning(make_toy, tmp_path):
    run(make_toy(), tmp_path, epochs=2)
    assert run(make_toy(), tmp_path, epochs=1).state.iteration == 3


def test_finished_training_is_not_trained_further(make_toy, tmp_path):
    toy = make_toy()
    run(toy, tmp_path, epochs=2)
    weight = toy.network.image.weight.detach().clone()
    run(toy, tmp_path, epochs=2, resume=True)
    assert toy.network.image.weight.equal(weight)


@pytest.mark.parametrize(("asked", "last"), [(1, 3), (3, 3), (4, 4)])
def test_fewer_epochs_than_are_done_are_reported_right(caplog, asked, last):
    HeldSchedule(2 * asked, {}).resume(6, 12, SimpleNamespace(max_epochs=asked, epoch_length=2))
    assert f"planned for 6 epochs: it is not made shorter, and epoch {last} is the last one" in caplog.text


def test_other_architecture(make_toy, tmp_path):
    run(make_toy(embed_dim=6), tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match=r"does not fit this network.*without --resume"):
        run(make_toy(embed_dim=7), tmp_path, epochs=2, resume=True)


class TestWithinAnEpoch:
    """Four iterations an epoch."""

    @pytest.mark.parametrize("accumulation", [1, 3])
    def test_killed_after_any_iteration(self, make_toy, tmp_path, accumulation):
        options = {"epochs": 3, "interval": 1, "accumulation_steps": accumulation}
        whole = with_loader(make_toy)
        torch.manual_seed(5)
        expected = run(whole, tmp_path / "whole", **options).state
        for iteration in range(accumulation, 12):
            toy = with_loader(make_toy)
            torch.manual_seed(5)
            run(toy, tmp_path / "killed", kill_after=iteration, **options)
            resumed = with_loader(make_toy, seed=1)
            state = run(resumed, tmp_path / "killed", resume=True, **options).state
            assert same(whole, resumed), iteration
            # also the mean loss of an epoch that was stopped in its midst, and the best of all epochs
            assert state.metrics == expected.metrics
            assert (state.best_metric, state.best_metric_epoch) == (expected.best_metric, expected.best_metric_epoch)
            assert state.iteration == 12
            for path in (tmp_path / "killed").iterdir():
                path.unlink()

    def test_saved_between_steps_alone(self, make_toy, tmp_path):
        for iteration, saved in ((1, []), (2, []), (3, [3]), (5, [3, 4]), (7, [4, 7])):
            run(with_loader(make_toy), tmp_path, 3, interval=1, kill_after=iteration, accumulation_steps=3)
            assert names(tmp_path) == [f"checkpoint_iteration={done}.pt" for done in saved]

    def test_interval(self, make_toy, tmp_path):
        run(with_loader(make_toy), tmp_path, 3, interval=3, kill_after=7)
        assert names(tmp_path) == ["checkpoint_iteration=4.pt", "checkpoint_iteration=7.pt"]

    def test_batches_are_not_loaded_in_vain(self, make_toy, tmp_path):
        run(with_loader(make_toy), tmp_path, 1, interval=1, kill_after=3)
        toy, seen = with_loader(make_toy), []
        data = toy.batches.dataset.dataset
        data.transform = lambda item: seen.append(1) or item
        run(toy, tmp_path, 1, interval=1, resume=True)
        assert len(seen) == 3

    def test_a_loader_that_cannot(self, make_toy, tmp_path, caplog):
        run(make_toy(), tmp_path, 1, interval=1, kill_after=2)
        run(make_toy(), tmp_path, 1, interval=1, resume=True)
        assert "cannot begin within an epoch" in caplog.text


def test_checkpoints_of_an_earlier_training(make_toy, tmp_path, caplog):
    run(make_toy(), tmp_path, epochs=4)
    run(make_toy(), tmp_path, epochs=1)
    assert "checkpoints of an earlier training" in caplog.text
    assert names(tmp_path) == ["checkpoint_iteration=3.pt"]
    assert run(make_toy(), tmp_path, epochs=2, resume=True).state.iteration == 6


def test_what_killed_trainings_left(make_toy, tmp_path):
    (tmp_path / "checkpoint_iteration=3.pt.77.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_text("not ours")
    run(make_toy(), tmp_path, epochs=1)
    assert names(tmp_path) == ["checkpoint_iteration=3.pt", "notes.tmp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accumulation_steps": 2}, "accumulation_steps 1, now 2"),
        ({"number": 17}, "training items 14, now 17; iterations in an epoch 4, now 5"),
    ],
)
def test_another_training(make_toy, tmp_path, change, message):
    run(with_loader(make_toy), tmp_path, epochs=1)
    number = change.pop("number", 14)
    with pytest.raises(CheckpointError, match=f"{message}. Resume with the data and options"):
        run(with_loader(make_toy, number), tmp_path, epochs=2, resume=True, **change)


def test_other_images_of_the_same_number(make_toy, tmp_path):
    def train(images, **options):
        toy = make_toy()
        data = [{"image": image} for image in images]
        handler = TrainingCheckpoint(tmp_path, {"network": toy.network}, data=data, **options)
        return toy.trainer(options.get("resume", False) + 1, [handler]).run()

    train(["/one/a/1.png", "/one/b/1.png"])
    with pytest.raises(CheckpointError, match=r"another training: hash of the images' names .*, now "):
        train(["/one/a/1.png", "/one/c/1.png"], resume=True)
    with pytest.raises(CheckpointError):
        train(["/one/b/1.png", "/one/a/1.png"], resume=True)
    train(["/moved/to/a/1.png", "/moved/to/b/1.png"], resume=True)
    assert names(tmp_path) == ["checkpoint_iteration=3.pt", "checkpoint_iteration=6.pt"]
